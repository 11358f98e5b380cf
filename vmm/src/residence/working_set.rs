//! Which pages the guest needs when it wakes, in the order in which it needs them.
//!
//! The processor tells of no page whether it was used (`docs/swap.md`), so what is known is what faulted. Pages
//! that are read ahead do not fault; every so often a wake leaves them out of the guest's memory, though
//! not of the monitor's, to see which of them it still needs.

use super::REGISTERS;
use denali_swap::PageNumber;
use std::collections::HashSet;

/// Each so-manieth wake is one that looks which pages are needed.
const SAMPLE_EVERY: u64 = 64;

/// Most pages that are read ahead: 4 MiB.
const MOST: usize = 1024;

/// Pages that are read along rather than waited for: fewer than a pager is worth.
pub(super) const SMALL: usize = 64;

/// What is read at once of `stored` pages, in ascending order, for a guest with this working set, if the rest
/// can come by fault; else all. The virtual registers are among it in any case.
pub(super) fn first_pages(
    stored: &[PageNumber],
    working_set: &[PageNumber],
    by_fault: bool,
) -> Vec<PageNumber> {
    let there = |page: &&PageNumber| stored.binary_search(page).is_ok();
    let mut first: Vec<PageNumber> = working_set.iter().take(MOST).filter(there).copied().collect();
    if !by_fault || stored.len() - first.len() <= SMALL {
        return stored.to_vec();
    }
    let registers = Some(REGISTERS).filter(|page| there(&page) && !first.contains(page));
    first.extend(registers);
    first
}

/// How the memory of a guest comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// These pages at once, the rest by fault.
    Ahead(Vec<PageNumber>),
    /// All by fault, these without reading.
    Sample(Vec<PageNumber>),
}

/// The pages that a guest needs when it wakes.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    pages: Vec<PageNumber>,
    /// It is what the guest touched, and not just all it had.
    known: bool,
    wakes: u64,
    sampling: bool,
}

impl WorkingSet {
    /// What was known when the guest was parked, which has woken so many times.
    pub(super) fn of(pages: Vec<PageNumber>, wakes: u64) -> Self {
        Self { known: !pages.is_empty(), pages, wakes, sampling: false }
    }

    /// The pages, in the order in which they are needed.
    pub(super) fn pages(&self) -> &[PageNumber] {
        &self.pages
    }

    /// The guest wakes, and `stored` are the pages that are out, in ascending order.
    pub(super) fn wake(&mut self, stored: &[PageNumber]) -> Plan {
        let due = !self.known || self.wakes % SAMPLE_EVERY == SAMPLE_EVERY - 1;
        self.wakes += 1;
        self.sampling = due && stored.len() > SMALL;
        if !self.sampling {
            return Plan::Ahead(first_pages(stored, &self.pages, true));
        }
        let there = |page: &&PageNumber| stored.binary_search(page).is_ok();
        Plan::Sample(match self.known {
            true => self.pages.iter().filter(there).take(MOST).copied().collect(),
            false => stored.iter().take(MOST).copied().collect(),
        })
    }

    /// The guest has touched these pages, in this order, since it woke.
    pub(super) fn touched(&mut self, faulted: Vec<PageNumber>) {
        if std::mem::take(&mut self.sampling) {
            self.pages = faulted;
            self.known = true;
            return;
        }
        if self.known {
            let there: HashSet<PageNumber> = self.pages.iter().copied().collect();
            self.pages.extend(faulted.into_iter().filter(|page| !there.contains(page)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than is read along.
    const MANY: std::ops::Range<u32> = 1000..1000 + 2 * SMALL as u32;

    fn pages(numbers: impl IntoIterator<Item = u32>) -> Vec<PageNumber> {
        numbers.into_iter().map(PageNumber).collect()
    }

    #[test]
    fn the_first_wake_looks_what_is_needed() {
        let (mut set, stored) = (WorkingSet::default(), pages(MANY));
        assert_eq!(set.wake(&stored), Plan::Sample(stored.clone()));
        set.touched(pages([1009, 1005]));
        assert_eq!(set.pages(), pages([1009, 1005]), "in the order of need");
        assert_eq!(set.wake(&stored), Plan::Ahead(pages([1009, 1005])));
        set.touched(pages([1003, 1009]));
        assert_eq!(set.pages(), pages([1009, 1005, 1003]), "it grows by what was missing");
    }

    #[test]
    fn now_and_then_it_shrinks() {
        let (mut set, stored) = (WorkingSet::of(pages(1000..1003), 5), pages(MANY));
        let sampled = (0..SAMPLE_EVERY)
            .filter(|_| {
                let sampling = matches!(set.wake(&stored), Plan::Sample(_));
                set.touched(if sampling { pages([1002]) } else { Vec::new() });
                sampling
            })
            .count();
        assert_eq!(sampled, 1);
        assert_eq!(set.pages(), pages([1002]));
    }

    #[test]
    fn the_rest_is_read_along_if_it_is_small() {
        let stored = pages(1000..1000 + SMALL as u32);
        assert_eq!(WorkingSet::default().wake(&stored), Plan::Ahead(stored.clone()));
        let ahead = first_pages(&pages(MANY), &pages(MANY.start..MANY.end - 1), true);
        assert_eq!(ahead, pages(MANY));
    }

    #[test]
    fn pages_that_are_not_out_are_not_read() {
        let stored = pages(MANY);
        assert_eq!(first_pages(&stored, &pages([1, 1001, 2]), true), pages([1001]));
        assert_eq!(first_pages(&stored, &pages([1001]), false), stored);
    }

    #[test]
    fn the_virtual_registers_come_in_any_case() {
        let stored: Vec<_> = [REGISTERS].into_iter().chain(pages(MANY)).collect();
        assert_eq!(first_pages(&stored, &pages([1001]), true), [PageNumber(1001), REGISTERS]);
    }
}
