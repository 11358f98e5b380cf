//! The interrupt batcher: devices raise lines, the guest gets all of them at once when it next runs
//! (OSDI 2002 paper, section 3.3).
//!
//! Any thread may raise a line, without a lock; only the owner of the guest's vCPU collects. A line
//! raised twice before it is collected is one interrupt: its meaning is "something happened recently".

use denali_abi::registers::{PENDING_STOP, PENDING_TIMER, VirtualRegisters};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gathers the interrupts of one guest until they are posted.
#[derive(Debug, Default)]
pub struct Batcher {
    lines: AtomicU64,
    raised: AtomicU64,
}

/// Where one device raises its interrupt.
#[derive(Clone, Debug)]
pub struct Line {
    batcher: Arc<Batcher>,
    bit: u64,
}

impl Batcher {
    /// A batcher with nothing raised.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The line of device `number`, or `None` for a number that no device can have.
    #[must_use]
    pub fn device_line(self: &Arc<Self>, number: usize) -> Option<Line> {
        (number < denali_abi::doorbell::DEVICES_MAX).then(|| self.line(number as u32))
    }

    /// The line that asks the guest to stop.
    #[must_use]
    pub fn stop_line(self: &Arc<Self>) -> Line {
        self.line(PENDING_STOP)
    }

    /// The line of the idle deadline.
    #[must_use]
    pub fn timer_line(self: &Arc<Self>) -> Line {
        self.line(PENDING_TIMER)
    }

    fn line(self: &Arc<Self>, bit: u32) -> Line {
        Line { batcher: self.clone(), bit: 1 << bit }
    }

    /// Whether a line is raised and not yet posted.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.lines.load(Ordering::Relaxed) != 0
    }

    fn collect(&self) -> u64 {
        // The common case is an empty set; a plain load keeps the cache line shared.
        if self.is_raised() { self.lines.swap(0, Ordering::Acquire) } else { 0 }
    }
}

impl Line {
    /// Raises the line. What the device wrote to guest memory before is seen by whoever sees the
    /// interrupt.
    pub fn raise(&self) {
        self.batcher.raised.fetch_add(1, Ordering::Relaxed);
        self.batcher.lines.fetch_or(self.bit, Ordering::Release);
    }
}

/// The owner's end: posts what was raised into the guest's virtual registers.
#[derive(Debug)]
pub struct Poster {
    batcher: Arc<Batcher>,
    counters: Counters,
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
        Self { batcher, counters: Counters::default() }
    }

    /// Posts all raised lines at once and says whether there were any.
    pub fn post(&mut self, registers: &VirtualRegisters) -> bool {
        let batch = self.batcher.collect();
        if batch == 0 {
            return false;
        }
        registers.pending.fetch_or(batch, Ordering::Release);
        self.counters.raised = self.batcher.raised.load(Ordering::Relaxed);
        self.counters.delivered += u64::from(batch.count_ones());
        self.counters.batches += 1;
        registers.interrupts_raised.store(self.counters.raised, Ordering::Relaxed);
        registers.interrupts_delivered.store(self.counters.delivered, Ordering::Relaxed);
        registers.batches.store(self.counters.batches, Ordering::Relaxed);
        true
    }

    /// What was raised and posted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { raised: self.batcher.raised.load(Ordering::Relaxed), ..self.counters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!poster.post(&registers), "nothing is posted twice");
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
    }
}
