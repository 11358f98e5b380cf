//! Which slots are free, and which pages lie beside each other.

use crate::region::PageNumber;
use crate::sparse::Sparse;
use std::ops::Range;

/// Runs of free slots that are looked at for one that is long enough.
const RUNS_TRIED: u32 = 256;

/// The slots of a region. One is taken by a page that is out or is being written, by the committed state,
/// by both, or free.
pub(crate) struct Slots {
    held: Bits,
    committed: Bits,
    /// The pages that are out, by slot.
    owners: Sparse<PageNumber>,
    /// Where the search for free slots goes on.
    cursor: u32,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            held: Bits::new(count),
            committed: Bits::new(count),
            owners: Sparse::default(),
            cursor: 0,
        }
    }

    /// Takes free slots that lie one after the other: `most` of them if there are so many in a row,
    /// otherwise as many as are found; `None` where no slot is free. The search goes on where the last one
    /// ended, so that what is written at about the same time lies together.
    pub(crate) fn take(&mut self, most: u32) -> Option<Range<u32>> {
        let mut best = 0..0;
        let mut tried = 0;
        for part in [self.cursor..self.held.count, 0..self.cursor] {
            let mut from = part.start;
            while let Some(run) = self.free_run(from..part.end, most) {
                from = run.end;
                tried += 1;
                if run.len() > best.len() {
                    best = run;
                }
                if best.len() == most as usize || tried == RUNS_TRIED {
                    return Some(self.hold(best));
                }
            }
        }
        (!best.is_empty()).then(|| self.hold(best))
    }

    fn hold(&mut self, slots: Range<u32>) -> Range<u32> {
        slots.clone().for_each(|slot| self.held.set(slot, true));
        self.cursor = slots.end;
        slots
    }

    /// The first run of free slots in a range, or its first `most`.
    fn free_run(&self, range: Range<u32>, most: u32) -> Option<Range<u32>> {
        let taken = |word: usize| self.held.words[word] | self.committed.words[word];
        let start = find(range.clone(), |word| !taken(word))?;
        let end = range.end.min(start.saturating_add(most));
        Some(start..find(start..end, taken).unwrap_or(end))
    }

    /// Slots that were taken and not used; the next search begins with them.
    pub(crate) fn put_back(&mut self, slots: Range<u32>) {
        slots.clone().for_each(|slot| self.free(slot));
        if slots.end == self.cursor {
            self.cursor = slots.start;
        }
    }

    /// No page that is out or written needs this slot any more.
    pub(crate) fn free(&mut self, slot: u32) {
        self.held.set(slot, false);
        self.owners.remove(slot);
    }

    /// A slot that is held has this page from now on.
    pub(crate) fn own(&mut self, slot: u32, page: PageNumber) {
        self.held.set(slot, true);
        self.owners.insert(slot, page);
    }

    /// The pages that are out are the committed state.
    pub(crate) fn commit(&mut self) {
        self.committed.words.fill(0);
        for (slot, _) in self.owners.iter() {
            self.committed.set(slot, true);
        }
    }

    /// At most `most` pages whose slots lie one after the other, that of `slot`, which a page has, about
    /// in their middle.
    pub(crate) fn around(&self, slot: u32, most: u32) -> Vec<PageNumber> {
        let owned = |slot: &u32| self.owners.get(*slot).is_some();
        let before = (0..slot).rev().take(most as usize).take_while(owned).count() as u32;
        let after = (slot..self.held.count).take(most as usize).take_while(owned).count() as u32;
        let (first, end) = (slot - before, slot + after);
        let start = (slot.saturating_sub(most / 2)).min(end.saturating_sub(most)).max(first);
        let window = start..end.min(start + most);
        window.filter_map(|slot| self.owners.get(slot).copied()).collect()
    }
}

/// One bit for each slot.
struct Bits {
    words: Vec<u64>,
    count: u32,
}

impl Bits {
    fn new(count: u32) -> Self {
        Self { words: vec![0; count.div_ceil(64) as usize], count }
    }

    fn set(&mut self, bit: u32, value: bool) {
        let (word, mask) = (&mut self.words[(bit / 64) as usize], 1 << (bit % 64));
        *word = if value { *word | mask } else { *word & !mask };
    }
}

/// The first bit of a range that is set in words got by number.
fn find(range: Range<u32>, word: impl Fn(usize) -> u64) -> Option<u32> {
    let mut at = range.start;
    while at < range.end {
        let rest = word((at / 64) as usize) >> (at % 64);
        if rest != 0 {
            return Some(at + rest.trailing_zeros()).filter(|&bit| bit < range.end);
        }
        at = (at / 64 + 1) * 64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn slots_follow_each_other_until_the_end() {
        let mut slots = Slots::new(200);
        assert_eq!(slots.take(64), Some(0..64));
        assert_eq!(slots.take(64), Some(64..128));
        slots.put_back(100..128);
        assert_eq!(slots.take(64), Some(100..164), "it goes on where it stopped");
        assert_eq!(slots.take(64), Some(164..200));
        assert_eq!(slots.take(64), None);
        (10..15).for_each(|slot| slots.free(slot));
        (50..60).for_each(|slot| slots.free(slot));
        assert_eq!(slots.take(64), Some(50..60), "the longest run there is");
        assert_eq!(slots.take(3), Some(10..13));
        assert_eq!(slots.take(3), Some(13..15));
    }

    #[test]
    fn what_is_committed_is_not_free_before_the_next_commit() {
        let mut slots = Slots::new(4);
        let taken = slots.take(2).unwrap();
        taken.clone().for_each(|slot| slots.own(slot, PageNumber(100 + slot)));
        slots.commit();
        taken.for_each(|slot| slots.free(slot));
        assert_eq!(slots.take(4), Some(2..4));
        assert_eq!(slots.take(1), None);
        slots.commit();
        assert_eq!(slots.take(4), Some(0..2));
    }

    #[test]
    fn neighbours_are_those_without_a_gap() {
        let mut slots = Slots::new(100);
        for slot in slots.take(30).unwrap().filter(|&slot| slot != 20) {
            slots.own(slot, PageNumber(slot));
        }
        let around = |slot, most| -> Vec<u32> {
            slots.around(slot, most).iter().map(|page| page.0).collect()
        };
        assert_eq!(around(10, 4), [8, 9, 10, 11]);
        assert_eq!(around(1, 4), [0, 1, 2, 3]);
        assert_eq!(around(18, 6), [14, 15, 16, 17, 18, 19]);
        assert_eq!(around(25, 100), (21..30).collect::<Vec<_>>());
        assert_eq!(around(5, 1), [5]);
    }

    proptest! {
        /// Against sets: no slot is given twice, none is lost, runs are as long as can be.
        #[test]
        fn slots_are_free_or_taken(
            steps in prop::collection::vec((0..5_u8, any::<u16>(), 1..70_u32), 1..80),
        ) {
            const COUNT: u32 = 300;
            let mut slots = Slots::new(COUNT);
            let mut held = BTreeMap::new();
            let mut committed = BTreeSet::new();
            let mut next_page = 0;
            for (step, choice, most) in steps {
                match step {
                    0..3 => {
                        let free = |slot: &u32| !held.contains_key(slot) && !committed.contains(slot);
                        let all = (0..COUNT).filter(free).count();
                        let taken = slots.take(most);
                        prop_assert_eq!(taken.is_none(), all == 0);
                        let taken = taken.unwrap_or(0..0);
                        prop_assert!(taken.len() <= most as usize && taken.clone().all(|slot| free(&slot)));
                        for slot in taken {
                            slots.own(slot, PageNumber(next_page));
                            held.insert(slot, PageNumber(next_page));
                            next_page += 1;
                        }
                    }
                    3 => {
                        let length = held.len().max(1);
                        if let Some((&slot, _)) = held.iter().nth(usize::from(choice) % length) {
                            slots.free(slot);
                            held.remove(&slot);
                        }
                    }
                    _ => {
                        slots.commit();
                        committed = held.keys().copied().collect();
                    }
                }
                for (&slot, page) in &held {
                    prop_assert!(slots.around(slot, 5).contains(page));
                }
            }
        }
    }
}
