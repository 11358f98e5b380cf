//! Where guest pages lie in this process, and sets of them.

use denali_swap::{PAGE, PageNumber};
use std::io;
use std::ops::Range;

/// Guest memory as it is mapped in this process: a run of guest pages at one run of host addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPages {
    address: u64,
    first: u32,
    count: u32,
}

impl HostPages {
    /// `count` guest pages from `first` on, mapped at `address`; `None` if that is not at a page, or
    /// not a range.
    ///
    /// # Safety
    /// The range is private anonymous memory, readable and writable, to which no Rust reference exists.
    /// It stays mapped as long as a pager or its userfaultfd is there.
    #[must_use]
    pub unsafe fn new(address: u64, first: PageNumber, count: u32) -> Option<Self> {
        let length = u64::from(count) * PAGE as u64;
        let aligned = address.is_multiple_of(PAGE as u64) && address != 0 && count > 0;
        let ends = first.0.checked_add(count).and(address.checked_add(length));
        (aligned && ends.is_some()).then_some(Self { address, first: first.0, count })
    }

    /// The guest's page at a host address.
    #[must_use]
    pub fn page_at(&self, address: u64) -> Option<PageNumber> {
        let index = address.checked_sub(self.address)? / PAGE as u64;
        (index < u64::from(self.count)).then(|| PageNumber(self.first + index as u32))
    }

    /// The host address of a guest's page.
    #[must_use]
    pub fn address_of(&self, page: PageNumber) -> Option<u64> {
        self.index(page).map(|index| self.address + index as u64 * PAGE as u64)
    }

    /// The pages there are.
    #[must_use]
    pub fn all(&self) -> Range<PageNumber> {
        PageNumber(self.first)..PageNumber(self.first + self.count)
    }

    /// The runs of pages of `range`, as far as it lies in here, that are in memory. Nobody may fill or
    /// discard pages meanwhile. What the host itself has swapped counts as missing.
    ///
    /// # Errors
    /// When the host cannot tell.
    pub fn resident(&self, range: &Range<PageNumber>) -> io::Result<Vec<Range<PageNumber>>> {
        const AT_ONCE: usize = 4096;
        let mut states = [0_u8; AT_ONCE];
        let mut runs: Vec<Range<PageNumber>> = Vec::new();
        let mut next = range.start.0.max(self.first);
        let end = range.end.0.min(self.first + self.count);
        while next < end {
            let count = ((end - next) as usize).min(AT_ONCE);
            let address = self.address + u64::from(next - self.first) * PAGE as u64;
            // SAFETY: the call writes `count` bytes, which there are; it only looks at the memory.
            let told = unsafe {
                libc::mincore(address as *mut libc::c_void, count * PAGE, states.as_mut_ptr())
            };
            if told < 0 {
                return Err(io::Error::last_os_error());
            }
            let here = (next..).zip(&states[..count]).filter(|(_, state)| **state & 1 != 0);
            here.for_each(|(page, _)| push(&mut runs, PageNumber(page)));
            next += count as u32;
        }
        Ok(runs)
    }

    /// The place of a page among those there are.
    pub(crate) fn index(&self, page: PageNumber) -> Option<usize> {
        let index = page.0.checked_sub(self.first)?;
        (index < self.count).then_some(index as usize)
    }

    /// How many pages there are.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }
}

/// Adds a page, higher than all, to runs of pages.
fn push(runs: &mut Vec<Range<PageNumber>>, page: PageNumber) {
    match runs.last_mut() {
        Some(run) if run.end == page => run.end.0 += 1,
        _ => runs.push(page..PageNumber(page.0 + 1)),
    }
}

/// Runs of consecutive pages in a sorted list: where each lies in the list.
pub(crate) fn runs(sorted: &[PageNumber]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let mut end = start + 1;
        sorted.get(start)?;
        while sorted.get(end).is_some_and(|page| page.0 == sorted[end - 1].0 + 1) {
            end += 1;
        }
        let run = start..end;
        start = end;
        Some(run)
    })
}

/// Ranges of pages: sorted, apart from each other, none empty.
#[derive(Clone, Debug)]
pub(crate) struct Areas(Vec<Range<PageNumber>>);

impl Areas {
    /// Checks that ranges are sorted, not empty, and lie in `pages`.
    pub(crate) fn new(ranges: Vec<Range<PageNumber>>, pages: &HostPages) -> Option<Self> {
        let mut free = pages.all().start;
        for range in &ranges {
            if range.start < free || range.start >= range.end || range.end > pages.all().end {
                return None;
            }
            free = range.end;
        }
        Some(Self(ranges))
    }

    pub(crate) fn contains(&self, page: PageNumber) -> bool {
        let after = self.0.partition_point(|range| range.start <= page);
        after > 0 && page < self.0[after - 1].end
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<PageNumber>> {
        self.0.iter()
    }
}

/// A set of places among a fixed number of them: one bit each.
#[derive(Clone, Debug)]
pub(crate) struct PageSet {
    words: Vec<u64>,
    length: usize,
}

impl PageSet {
    /// None of `count`.
    pub(crate) fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)], length: 0 }
    }

    /// How many places are in.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Adds a place; true if it was not in.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let is_new = !self.contains(index);
        self.words[index / 64] |= 1 << (index % 64);
        self.length += usize::from(is_new);
        is_new
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.length -= usize::from(self.contains(index));
        self.words[index / 64] &= !(1 << (index % 64));
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.words[index / 64] & 1 << (index % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages() -> HostPages {
        // SAFETY: these tests compute with addresses and touch no memory.
        unsafe { HostPages::new(0x7000_0000, PageNumber(0x100), 16).unwrap() }
    }

    #[test]
    fn addresses_and_pages_belong_together() {
        let pages = pages();
        assert_eq!(pages.page_at(0x7000_0000), Some(PageNumber(0x100)));
        assert_eq!(pages.page_at(0x7000_ffff), Some(PageNumber(0x10f)));
        assert_eq!(pages.page_at(0x7001_0000), None);
        assert_eq!(pages.page_at(0x6fff_ffff), None);
        assert_eq!(pages.address_of(PageNumber(0x101)), Some(0x7000_1000));
        assert_eq!(pages.address_of(PageNumber(0x110)), None);
        assert_eq!(pages.address_of(PageNumber(0xff)), None);
    }

    #[test]
    fn ranges_that_do_not_exist_are_refused() {
        // SAFETY: no memory is touched.
        let new =
            |address, first, count| unsafe { HostPages::new(address, PageNumber(first), count) };
        assert!(new(0x1001, 0, 1).is_none(), "not at a page");
        assert!(new(0, 0, 1).is_none());
        assert!(new(0x1000, 0, 0).is_none(), "nothing");
        assert!(new(0x1000, u32::MAX, 1).is_none(), "past the last number");
        assert!(new(u64::MAX - 0xfff, 0, 2).is_none(), "past the last address");
    }

    #[test]
    fn areas_are_sorted_and_inside() {
        let range = |start, end| PageNumber(start)..PageNumber(end);
        let new = |ranges: &[Range<PageNumber>]| Areas::new(ranges.to_vec(), &pages());
        let areas = new(&[range(0x100, 0x102), range(0x102, 0x103), range(0x10f, 0x110)]).unwrap();
        assert_eq!(areas.iter().count(), 3);
        let inside: Vec<u32> =
            (0xf0..0x120).filter(|page| areas.contains(PageNumber(*page))).collect();
        assert_eq!(inside, [0x100, 0x101, 0x102, 0x10f]);
        assert!(new(&[range(0xff, 0x101)]).is_none());
        assert!(new(&[range(0x10f, 0x111)]).is_none());
        assert!(new(&[range(0x102, 0x104), range(0x103, 0x105)]).is_none());
        assert!(new(&[range(0x102, 0x102)]).is_none());
    }

    proptest! {
        #[test]
        fn runs_cover_a_sorted_list(set in proptest::collection::btree_set(0_u32..200, 0..100)) {
            let sorted: Vec<_> = set.into_iter().map(PageNumber).collect();
            let mut next = 0;
            for run in runs(&sorted) {
                prop_assert_eq!(run.start, next);
                prop_assert!(run.clone().all(|at| sorted[at].0 - sorted[run.start].0 == (at - run.start) as u32));
                prop_assert!(sorted.get(run.end).is_none_or(|page| page.0 > sorted[run.end - 1].0 + 1));
                next = run.end;
            }
            prop_assert_eq!(next, sorted.len());
        }

        #[test]
        fn a_set_holds_what_was_put_in(actions in proptest::collection::vec((0_usize..130, any::<bool>()), 0..200)) {
            let mut set = PageSet::new(130);
            let mut model = std::collections::BTreeSet::new();
            for (index, add) in actions {
                if add {
                    prop_assert_eq!(set.insert(index), model.insert(index));
                } else {
                    set.remove(index);
                    model.remove(&index);
                }
            }
            prop_assert!((0..130).all(|index| set.contains(index) == model.contains(&index)));
            prop_assert_eq!(set.len(), model.len());
        }
    }
}
