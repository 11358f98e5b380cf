//! Tables in Markdown.

use crate::backend::Backend;
use std::fmt;

/// A table: its columns' titles and its rows.
#[derive(Debug)]
pub(crate) struct Table {
    columns: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(titles: &[&str]) -> Self {
        let titles: Vec<String> = titles.iter().map(|&title| title.into()).collect();
        Self { columns: titles.len(), lines: vec![titles] }
    }

    /// A table whose last columns, `each`, are there for every back end.
    pub(crate) fn of_backends(first: &[&str], each: &[&str]) -> Self {
        let mut titles: Vec<String> = first.iter().map(|&title| title.into()).collect();
        for backend in Backend::ALL {
            titles.push(format!("{}: {}", backend.title(), each[0]));
            titles.extend(each[1..].iter().map(|&title| title.into()));
        }
        Self { columns: titles.len(), lines: vec![titles] }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.columns, String::new());
        self.lines.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines.iter().enumerate() {
            writeln!(f, "| {} |", line.join(" | "))?;
            if number == 0 {
                writeln!(f, "|{}", "---|".repeat(self.columns))?;
            }
        }
        Ok(())
    }
}

/// A number as people read it: three digits that matter, thousands apart; `–` where there is none.
pub(crate) fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".into() };
    let size = value.abs();
    match size {
        _ if size >= 1000.0 => thousands(value.round() as i64),
        _ if size >= 100.0 || value == value.round() => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown = |value| number(Some(value));
        assert_eq!(number(None), "–");
        assert_eq!(shown(1.2345), "1.23");
        assert_eq!(shown(12.345), "12.3");
        assert_eq!(shown(123.45), "123");
        assert_eq!(shown(0.0), "0");
        assert_eq!(shown(0.00312), "0.0031");
        assert_eq!(shown(1_234_567.8), "1,234,568");
        assert_eq!(shown(-12_345.0), "-12,345");
    }

    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["1".into()]);
        assert_eq!(table.to_string(), "| a | b |\n|---|---|\n| 1 |  |\n");
        let table = Table::of_backends(&["a"], &["b", "c"]);
        assert_eq!(table.lines[0].join(" "), "a KVM: b c process: b c");
    }
}
