//! What is raised and not yet collected: the part of the batcher that threads share, without a lock.
//!
//! `tests/loom.rs` compiles this same file with loom's atomics and tries all interleavings.

use crate::sync::{AtomicU64, Ordering};

/// The lines of one guest that are raised, with how often and since when.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    lines: AtomicU64,
    raised: AtomicU64,
    /// When the set ceased to be empty, as the thread that raised the first line read the time. The
    /// thread writes it after it has raised, so it may still be that of an earlier batch.
    since: AtomicU64,
}

/// What only the one collector knows.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// When it last collected: whatever is not later belongs to an earlier batch.
    last: u64,
}

/// Lines that were collected at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The set of lines; never empty.
    pub(crate) lines: u64,
    /// Time from the first raise to the collection; `None` where they met so closely that the thread
    /// that raised had no time to say when.
    pub(crate) held: Option<u64>,
}

impl Pending {
    /// Raises the lines of `set`; `now` reads the time, which must not run backwards. Wait-free: at most
    /// one reading of the time and three atomic operations, whatever other threads do.
    pub(crate) fn raise(&self, set: u64, now: impl FnOnce() -> u64) {
        self.raised.fetch_add(1, Ordering::Relaxed);
        // Only the first of a batch pays for a clock. The time is read before the line is raised, so
        // that a collector which sees the line collects at a later time.
        let time = (!self.is_raised()).then(now);
        let before = self.lines.fetch_or(set, Ordering::AcqRel);
        if let (0, Some(time)) = (before, time) {
            self.since.store(time, Ordering::Relaxed);
        }
    }

    /// Whether a line is raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.lines.load(Ordering::Relaxed) != 0
    }

    /// Times a line was raised so far.
    pub(crate) fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// Takes all lines that are raised; what was written before a raise is seen by whoever gets its line.
    pub(crate) fn collect(
        &self,
        collector: &mut Collector,
        now: impl FnOnce() -> u64,
    ) -> Option<Batch> {
        // The common case is an empty set; a plain load keeps the cache line shared.
        if !self.is_raised() {
            return None;
        }
        // Before the set is empty, so that nobody has written the next batch's time. The exchange and the
        // raise of the next batch's first line keep that order between threads.
        let since = self.since.load(Ordering::Relaxed);
        let lines = self.lines.swap(0, Ordering::AcqRel);
        let now = now();
        // A time of an earlier batch was read before that batch was collected.
        let held = (since > collector.last).then(|| now.saturating_sub(since));
        collector.last = now;
        Some(Batch { lines, held })
    }
}
