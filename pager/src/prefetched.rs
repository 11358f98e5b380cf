//! Pages that were read before anybody touched them.

use denali_swap::{PAGE, PageNumber};

/// Pages that were read in one go, to be given to the guest as it touches them: so it is seen which of a
/// working set are still in it. They stay in the store, or have the original's contents, until then.
#[derive(Debug, Default)]
pub struct Prefetched {
    pages: Vec<PageNumber>,
    bytes: Vec<u8>,
    /// Which of them nobody has asked for yet.
    left: Vec<bool>,
    count: usize,
    /// Nothing before this place is left.
    next: usize,
}

impl Prefetched {
    /// Pages in ascending order, and the bytes of all of them, one after the other; `None` if they are
    /// not in order, or not as many.
    #[must_use]
    pub fn new(pages: Vec<PageNumber>, bytes: Vec<u8>) -> Option<Self> {
        let sorted = pages.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = pages.len().checked_mul(PAGE) == Some(bytes.len());
        let (left, count) = (vec![true; pages.len()], pages.len());
        (sorted && fits).then_some(Self { pages, bytes, left, count, next: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a page is here, and nobody has asked for it.
    pub(crate) fn contains(&self, page: PageNumber) -> bool {
        self.place(page).is_some()
    }

    /// A page that somebody asks for.
    pub(crate) fn take(&mut self, page: PageNumber) -> Option<&[u8]> {
        let at = self.place(page)?;
        self.left[at] = false;
        self.count -= 1;
        Some(&self.bytes[at * PAGE..(at + 1) * PAGE])
    }

    /// Takes the first run of consecutive pages that nobody has asked for, at most `most` of them.
    pub(crate) fn take_run(&mut self, most: usize) -> Option<(&[PageNumber], &[u8])> {
        let start = (self.next..self.pages.len()).find(|at| self.left[*at])?;
        let continues = |at: &usize| {
            at - start < most && self.left[*at] && self.pages[*at].0 == self.pages[at - 1].0 + 1
        };
        let end = (start + 1..self.pages.len()).take_while(continues).last().unwrap_or(start) + 1;
        self.left[start..end].fill(false);
        self.count -= end - start;
        self.next = end;
        Some((&self.pages[start..end], &self.bytes[start * PAGE..end * PAGE]))
    }

    /// Nothing is here any more; the memory goes back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn place(&self, page: PageNumber) -> Option<usize> {
        self.pages.binary_search(&page).ok().filter(|at| self.left[*at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetched(pages: &[u32]) -> Prefetched {
        let bytes = pages.iter().flat_map(|page| [*page as u8; PAGE]).collect();
        Prefetched::new(pages.iter().copied().map(PageNumber).collect(), bytes).unwrap()
    }

    #[test]
    fn a_page_is_taken_once() {
        let mut prefetched = prefetched(&[3, 4, 9]);
        assert!(prefetched.contains(PageNumber(4)));
        assert_eq!(prefetched.take(PageNumber(4)), Some(&[4; PAGE][..]));
        assert_eq!(prefetched.take(PageNumber(4)), None);
        assert_eq!(prefetched.take(PageNumber(5)), None);
        assert!(!prefetched.contains(PageNumber(4)));
    }

    #[test]
    fn what_nobody_asked_for_is_taken_in_runs() {
        let mut prefetched = prefetched(&[1, 2, 3, 5, 6, 7, 8, 9]);
        prefetched.take(PageNumber(6));
        let mut runs = Vec::new();
        while let Some((pages, bytes)) = prefetched.take_run(2) {
            assert!(
                pages.iter().zip(bytes.chunks(PAGE)).all(|(page, bytes)| bytes[7] == page.0 as u8)
            );
            runs.push(pages.iter().map(|page| page.0).collect::<Vec<_>>());
        }
        assert_eq!(runs, [vec![1, 2], vec![3], vec![5], vec![7, 8], vec![9]]);
        assert!(prefetched.is_empty());
    }

    #[test]
    fn pages_out_of_order_or_without_bytes_are_refused() {
        let new = |pages: &[u32], bytes| {
            Prefetched::new(pages.iter().copied().map(PageNumber).collect(), vec![0; bytes])
        };
        assert!(new(&[2, 1], 2 * PAGE).is_none());
        assert!(new(&[1, 1], 2 * PAGE).is_none());
        assert!(new(&[1, 2], PAGE).is_none());
        assert!(new(&[], 0).unwrap().is_empty());
    }
}
