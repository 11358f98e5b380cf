//! Tables of aligned columns for people to read.

use std::fmt;
use std::ops::Range;

/// Rows of cells; the last column is not padded.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns whose cells end below each other.
    right: Range<usize>,
}

impl Table {
    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [impl Into<String>; N]) {
        self.cells(cells.into_iter().map(Into::into).collect());
    }

    /// Adds a row of any number of cells.
    pub(crate) fn cells(&mut self, cells: Vec<impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Has the cells of these columns end below each other, as numbers do.
    pub(crate) fn align_right(&mut self, columns: Range<usize>) {
        self.right = columns;
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |cell: Option<&String>| cell.map_or(0, |text| text.chars().count());
        (0..columns)
            .map(|column| self.rows.iter().map(|row| width(row.get(column))).max().unwrap_or(0))
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            // No line ends with blanks: nothing follows that they would keep something clear of.
            let last = row.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate().take(last + 1) {
                let space = if column < last { "  " } else { "" };
                if self.right.contains(&column) {
                    write!(f, "{cell:>width$}{space}")?;
                } else if column < last {
                    write!(f, "{cell:width$}{space}")?;
                } else {
                    write!(f, "{cell}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::default();
        table.row(["name", "size"]);
        table.row(["a", "1"]);
        assert_eq!(table.to_string(), "name  size\na     1");
    }

    #[test]
    fn numbers_end_below_each_other_and_no_line_ends_with_blanks() {
        let mut table = Table::default();
        table.align_right(1..2);
        table.row(["name", "size", "note"]);
        table.row(["a", "12", "x"]);
        table.cells(vec!["long-name", "1", ""]);
        assert_eq!(table.to_string(), "name       size  note\na            12  x\nlong-name     1");
    }
}
