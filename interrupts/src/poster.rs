//! The owner's end of a batcher: posts what was raised, or holds it, and keeps account.

use crate::pending::Collector;
use crate::{Batcher, Histogram, ticks};
use denali_abi::registers::VirtualRegisters;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Times from the first raise of a batch to its post, in ticks of the time-stamp counter: 384 bytes, up to
/// some minutes.
pub type TimesHeld = Histogram<40>;

/// Interrupts in each batch, 1 to 64.
pub type BatchSizes = Histogram<8>;

/// The owner's end: posts what was raised into the guest's virtual registers.
#[derive(Debug)]
pub struct Poster {
    batcher: Arc<Batcher>,
    collector: Collector,
    is_held: bool,
    counters: Counters,
    times_held: TimesHeld,
    batch_sizes: BatchSizes,
}

/// What was raised and posted since the guest started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times a line was raised.
    pub raised: u64,
    /// Interrupts posted; lines raised several times before a post count once.
    pub delivered: u64,
    /// Posts of at least one interrupt.
    pub batches: u64,
}

impl Poster {
    /// The owner's end of `batcher`.
    #[must_use]
    pub fn new(batcher: Arc<Batcher>) -> Self {
        Self {
            batcher,
            collector: Collector::default(),
            is_held: false,
            counters: Counters::default(),
            times_held: TimesHeld::new(),
            batch_sizes: BatchSizes::new(),
        }
    }

    /// Posts all raised lines at once and says whether there were any; nothing while they are held.
    pub fn post(&mut self, registers: &VirtualRegisters) -> bool {
        if self.is_held {
            return false;
        }
        let Some(batch) = self.batcher.pending.collect(&mut self.collector, ticks) else {
            return false;
        };
        registers.pending.fetch_or(batch.lines, Ordering::Release);
        let size = u64::from(batch.lines.count_ones());
        self.batch_sizes.record(size);
        if let Some(held) = batch.held {
            self.times_held.record(held);
        }
        self.counters.raised = self.batcher.pending.raised();
        self.counters.delivered += size;
        self.counters.batches += 1;
        registers.interrupts_raised.store(self.counters.raised, Ordering::Relaxed);
        registers.interrupts_delivered.store(self.counters.delivered, Ordering::Relaxed);
        registers.batches.store(self.counters.batches, Ordering::Relaxed);
        true
    }

    /// From here on nothing is posted: the guest is swapped out, parked or stopped. What is raised
    /// meanwhile gathers in the batcher, which has room for all lines.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Ends a [`hold`](Self::hold): the next post delivers all that was raised meanwhile, in one batch.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    /// Whether interrupts are held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// What was raised and posted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { raised: self.batcher.pending.raised(), ..self.counters }
    }

    /// How long batches waited from their first raise to their post, in ticks of the time-stamp counter. A
    /// batch whose first raise met its post, on another thread, so closely that it had no time yet is not
    /// counted.
    #[must_use]
    pub fn times_held(&self) -> &TimesHeld {
        &self.times_held
    }

    /// How many interrupts the batches had.
    #[must_use]
    pub fn batch_sizes(&self) -> &BatchSizes {
        &self.batch_sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_abi::registers::PENDING_STOP;

    const _: () = assert!(size_of::<Poster>() + size_of::<Batcher>() <= 1024);

    fn registers() -> VirtualRegisters {
        // SAFETY: every field is an integer or an atomic integer, for which all-zero is valid.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn everything_raised_arrives_in_one_batch() {
        let (batcher, registers) = (Batcher::new(), registers());
        let mut poster = Poster::new(batcher.clone());
        batcher.device_line(0).unwrap().raise();
        batcher.device_line(61).unwrap().raise();
        batcher.device_line(0).unwrap().raise();
        assert!(poster.post(&registers));
        assert_eq!(registers.pending.load(Ordering::Relaxed), 1 | 1 << 61);
        assert_eq!(poster.counters(), Counters { raised: 3, delivered: 2, batches: 1 });
        assert_eq!((poster.batch_sizes().count(), poster.batch_sizes().sum()), (1, 2));
        assert!(!poster.post(&registers), "nothing is posted twice");
        assert_eq!(poster.batch_sizes().count(), 1, "no batch is empty");
    }

    #[test]
    fn posting_keeps_what_the_guest_has_not_taken() {
        let (batcher, registers) = (Batcher::new(), registers());
        registers.pending.store(1 << 7, Ordering::Relaxed);
        batcher.stop_line().raise();
        Poster::new(batcher).post(&registers);
        assert_eq!(registers.pending.load(Ordering::Relaxed), 1 << 7 | 1 << PENDING_STOP);
    }

    #[test]
    fn numbers_beyond_the_devices_have_no_line() {
        assert!(Batcher::new().device_line(62).is_none());
    }

    #[test]
    fn what_is_held_comes_in_one_batch_with_the_first_post_after() {
        let (batcher, registers) = (Batcher::new(), registers());
        let mut poster = Poster::new(batcher.clone());
        poster.hold();
        for number in [3, 5, 3] {
            batcher.device_line(number).unwrap().raise();
            assert!(!poster.post(&registers));
        }
        assert_eq!(registers.pending.load(Ordering::Relaxed), 0);
        assert!(poster.is_held() && batcher.is_raised());
        poster.release();
        assert!(poster.post(&registers));
        assert_eq!(registers.pending.load(Ordering::Relaxed), 1 << 3 | 1 << 5);
        assert_eq!(poster.counters(), Counters { raised: 3, delivered: 2, batches: 1 });
    }

    #[test]
    fn the_time_held_is_from_the_first_raise_to_the_post() {
        let (batcher, registers) = (Batcher::new(), registers());
        let mut poster = Poster::new(batcher.clone());
        for round in 1..=3 {
            let outer = ticks();
            batcher.device_line(1).unwrap().raise();
            let inner = ticks();
            std::thread::sleep(std::time::Duration::from_millis(1));
            batcher.device_line(2).unwrap().raise();
            let least = ticks() - inner;
            let before = poster.times_held().sum();
            assert!(poster.post(&registers));
            let held = poster.times_held().sum() - before;
            assert!((least..=ticks() - outer).contains(&held), "{least} {held}");
            assert_eq!(poster.times_held().count(), round);
        }
    }

    #[test]
    fn threads_lose_nothing() {
        const THREADS: usize = 4;
        const TIMES: u64 = 20_000;
        let (batcher, registers) = (Batcher::new(), registers());
        let mut poster = Poster::new(batcher.clone());
        let mut seen = 0;
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let line = batcher.device_line(number).unwrap();
                scope.spawn(move || (0..TIMES).for_each(|_| line.raise()));
            }
            while poster.counters().raised < THREADS as u64 * TIMES {
                poster.post(&registers);
                seen |= registers.pending.swap(0, Ordering::Acquire);
            }
        });
        poster.post(&registers);
        seen |= registers.pending.swap(0, Ordering::Acquire);
        assert_eq!(seen, (1 << THREADS) - 1);
        assert!(!batcher.is_raised());
        assert_eq!(poster.counters().raised, THREADS as u64 * TIMES);
        assert_eq!(poster.batch_sizes().sum(), poster.counters().delivered);
        assert!(poster.times_held().count() <= poster.counters().batches);
    }
}
