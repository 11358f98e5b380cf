//! Which pages the guest needs when it wakes, in the order in which it needs them.
//!
//! The processor tells of no page whether it was used (`docs/swap.md`), so what is known is what faulted. Pages
//! that are read ahead do not fault; every so often a wake leaves them out of the guest's memory, though
//! not of the monitor's, to see which of them it still needs.

use denali_swap::PageNumber;
use std::collections::HashSet;

/// Each so-manieth wake is one that looks which pages are needed.
const SAMPLE_EVERY: u64 = 64;

/// Most pages that are read ahead: 4 MiB.
const MOST: usize = 1024;

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
    /// What was known when the guest was parked.
    pub(super) fn of(pages: Vec<PageNumber>) -> Self {
        Self { known: !pages.is_empty(), pages, ..Self::default() }
    }

    /// The pages, in the order in which they are needed.
    pub(super) fn pages(&self) -> &[PageNumber] {
        &self.pages
    }

    /// The guest wakes, and `stored` are the pages that are out. Returns what to read ahead, and whether it is
    /// to be kept at hand only, to see what is needed; `can_sample`: that can be seen.
    pub(super) fn wake(
        &mut self,
        stored: impl Iterator<Item = PageNumber>,
        can_sample: bool,
    ) -> (Vec<PageNumber>, bool) {
        let stored: HashSet<PageNumber> = stored.collect();
        let ahead: Vec<PageNumber> = match self.known {
            true => self.pages.iter().copied().filter(|page| stored.contains(page)).collect(),
            false => {
                let mut all: Vec<_> = stored.into_iter().collect();
                all.sort_unstable();
                all
            }
        };
        let ahead = ahead.into_iter().take(MOST).collect();
        self.sampling =
            can_sample && (!self.known || self.wakes % SAMPLE_EVERY == SAMPLE_EVERY - 1);
        self.wakes += 1;
        (ahead, self.sampling)
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

    fn pages(numbers: &[u32]) -> Vec<PageNumber> {
        numbers.iter().copied().map(PageNumber).collect()
    }

    #[test]
    fn the_first_wake_looks_what_is_needed() {
        let mut set = WorkingSet::default();
        let (ahead, sampling) = set.wake(pages(&[9, 3, 5]).into_iter(), true);
        assert_eq!((ahead, sampling), (pages(&[3, 5, 9]), true));
        set.touched(pages(&[9, 5]));
        assert_eq!(set.pages(), pages(&[9, 5]), "in the order of need");
        let (ahead, sampling) = set.wake(pages(&[3, 5, 9]).into_iter(), true);
        assert_eq!((ahead, sampling), (pages(&[9, 5]), false));
        set.touched(pages(&[3, 9]));
        assert_eq!(set.pages(), pages(&[9, 5, 3]), "it grows by what was missing");
    }

    #[test]
    fn now_and_then_it_shrinks() {
        let mut set = WorkingSet::of(pages(&[1, 2, 3]));
        let sampled = (0..SAMPLE_EVERY)
            .filter(|_| {
                let (_, sampling) = set.wake(pages(&[1, 2, 3]).into_iter(), true);
                set.touched(if sampling { pages(&[2]) } else { Vec::new() });
                sampling
            })
            .count();
        assert_eq!(sampled, 1);
        assert_eq!(set.pages(), pages(&[2]));
    }

    #[test]
    fn where_faults_are_not_seen_everything_is_read() {
        let mut set = WorkingSet::default();
        assert_eq!(set.wake(pages(&[4, 2]).into_iter(), false), (pages(&[2, 4]), false));
        set.touched(Vec::new());
        assert!(set.pages().is_empty());
    }

    #[test]
    fn pages_that_are_not_out_are_not_read() {
        let mut set = WorkingSet::of(pages(&[1, 2, 3]));
        assert_eq!(set.wake(pages(&[3, 1]).into_iter(), true).0, pages(&[1, 3]));
    }
}
