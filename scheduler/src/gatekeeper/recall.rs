//! What is remembered of guests that have left: of the last ones that they were told to, and of all how often they came.

use super::residents::Stay;
use super::{GuestNumber, Pacing};
use std::collections::{HashMap, VecDeque};

/// Bounded memory of who has left.
#[derive(Clone, Debug)]
pub(super) struct Recall {
    gone: HashMap<GuestNumber, Gone>,
    /// The same in the order in which they left, with those that have come back since.
    order: VecDeque<(GuestNumber, u64)>,
    pub(super) visits: Visits,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    at_ns: u64,
    returns: u8,
}

/// Fewest guests that are remembered.
const LEAST: usize = 1024;

/// Most times in a row that are counted.
const RETURNS_MAX: u8 = 16;

impl Recall {
    /// For a host with so many guests in memory; 0 = that is not known.
    pub(super) fn new(max_running: u32) -> Self {
        Self { gone: HashMap::new(), order: VecDeque::new(), visits: Visits::new(max_running) }
    }

    pub(super) fn resize(&mut self, max_running: u32) {
        if Visits::width(max_running) != self.visits.counters.len() {
            self.visits = Visits::new(max_running);
        }
    }

    /// A guest that was told to leave has, of so many that are in memory.
    pub(super) fn left(&mut self, guest: GuestNumber, now_ns: u64, stay: Stay, inside: usize) {
        self.gone.insert(guest, Gone { at_ns: now_ns, returns: stay.returns });
        self.order.push_back((guest, now_ns));
        while self.order.len() > inside.max(LEAST) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((guest, at_ns)) = self.order.pop_front() else { return };
        if self.gone.get(&guest).is_some_and(|gone| gone.at_ns == at_ns) {
            self.gone.remove(&guest);
        }
    }

    /// A guest comes: how many times in a row it was back soon.
    pub(super) fn came(&mut self, guest: GuestNumber, now_ns: u64, pacing: &Pacing) -> u8 {
        self.visits.note(guest);
        let Some(Gone { at_ns, returns }) = self.gone.remove(&guest) else { return 0 };
        let away = now_ns.saturating_sub(at_ns);
        if away <= pacing.soon_ns {
            return returns.saturating_add(1).min(RETURNS_MAX);
        }
        // Each further time that it could have been back soon and was not takes one away.
        let missed = away / pacing.soon_ns.max(1);
        returns.saturating_sub(u8::try_from(missed).unwrap_or(u8::MAX))
    }

    pub(super) fn forget(&mut self, guest: GuestNumber) {
        self.gone.remove(&guest);
    }
}

/// How often guests were wanted lately: counters that many guests share, of which each has four, and the least of these
/// counts (a count-min sketch). All are halved again and again, so that what was long ago fades.
#[derive(Clone, Debug)]
pub(super) struct Visits {
    counters: Vec<u8>,
    /// Visits until all counters are halved.
    remaining: usize,
}

/// Counters of each guest.
const ROWS: u64 = 4;

impl Visits {
    fn new(max_running: u32) -> Self {
        let width = Self::width(max_running);
        Self { counters: vec![0; width], remaining: width }
    }

    /// Counters for so many guests in memory: sixty-four for each, or more, and a power of two. So many visits are
    /// remembered that those of guests on the edge of being kept, which come seldom, are told apart.
    fn width(max_running: u32) -> usize {
        let guests = if max_running == 0 { 16_384 } else { max_running.clamp(256, 1 << 18) };
        (guests as usize * 64).next_power_of_two()
    }

    /// The guest was wanted.
    pub(super) fn note(&mut self, guest: GuestNumber) {
        let least = self.count(guest);
        if least < u8::MAX {
            for place in self.places(guest) {
                // Only those are raised that say the least, which keeps the others' errors small.
                if self.counters[place] == least {
                    self.counters[place] = least + 1;
                }
            }
        }
        self.remaining -= 1;
        if self.remaining == 0 {
            self.remaining = self.counters.len();
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
    }

    /// How often the guest was wanted lately; others may be counted with it.
    pub(super) fn count(&self, guest: GuestNumber) -> u8 {
        let counts = self.places(guest).map(|place| self.counters[place]);
        counts.into_iter().min().unwrap_or(0)
    }

    fn places(&self, guest: GuestNumber) -> [usize; ROWS as usize] {
        let mask = self.counters.len() - 1;
        // Two halves of one well mixed number make four that are independent enough.
        let mixed = mix(u64::from(guest) + 1);
        let (first, step) = (u64::from(mixed as u32), (mixed >> 32) | 1);
        std::array::from_fn(|row| first.wrapping_add(step.wrapping_mul(row as u64)) as usize & mask)
    }
}

/// Steele, Lea and Flood's finalizer of SplitMix64: every bit of the result depends on every bit of the input.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_counted_and_fade() {
        let mut visits = Visits::new(256);
        (0..9).for_each(|_| visits.note(7));
        assert_eq!(visits.count(7), 9);
        assert_eq!(visits.count(8), 0);
        for other in 100..100 + Visits::width(256) as u32 - 9 {
            visits.note(other);
        }
        assert!((4..=5).contains(&visits.count(7)), "{}", visits.count(7));
    }

    #[test]
    fn who_is_back_soon_is_counted_and_forgotten_again() {
        let pacing = Pacing { soon_ns: 100, ..Pacing::default() };
        let mut recall = Recall::new(256);
        let mut returns = 0;
        for round in 0..3 {
            recall.left(1, round * 1000, Stay { returns }, 0);
            returns = recall.came(1, round * 1000 + 50, &pacing);
            assert_eq!(u64::from(returns), round + 1);
        }
        recall.left(1, 10_000, Stay { returns }, 0);
        assert_eq!(recall.came(1, 10_250, &pacing), 1, "two times missed");
        assert_eq!(recall.came(1, 10_260, &pacing), 0, "it was not told to leave");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut recall = Recall::new(256);
        for guest in 0..10_000 {
            recall.left(guest, u64::from(guest), Stay { returns: 0 }, 10);
        }
        assert_eq!((recall.order.len(), recall.gone.len()), (LEAST, LEAST));
        assert_eq!(recall.came(9_999, 10_000, &Pacing::default()), 1);
        assert_eq!(recall.came(1, 10_000, &Pacing::default()), 0);
    }
}
