//! When a driver hears of completions: at once while few requests are in flight, together while many.
//!
//! Waking a guest costs tens of microseconds; a fast disk completes a request every few. A driver that
//! keeps many requests in flight loses nothing if it hears of half of them at a time: the other half
//! keeps the disk busy meanwhile. So:
//!
//! - while fewer than [`GATHER_FROM`] requests are in flight, every completion is told at once;
//! - else completions are told when half of what was in flight has completed, or
//!   [`HOLD_MAX_NS`] after the first of them;
//! - nothing is held where, at the pace at which requests have lately completed, the half would take
//!   longer than that: a slow disk gains nothing from waiting.
//!
//! Completed requests are in the used ring at once all the same; what is held is the interrupt. A driver
//! that looks by itself finds them.

use super::backend::Wake;

/// Fewer requests in flight are never held.
pub(super) const GATHER_FROM: u32 = 8;

/// Longest time a completion is held.
pub(super) const HOLD_MAX_NS: u64 = 100_000;

/// Shortest time over which the pace is measured.
const SAMPLE_MIN_NS: u64 = 20_000;

/// Decides when to tell the driver; time is given, never read.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Completions the driver has not been told of, and since when.
    held: u32,
    held_since: u64,
    /// Completions since `sample_start`, while something was in flight.
    sample: u32,
    sample_start: u64,
    /// Nanoseconds from one completion to the next, averaged; 0 = unknown.
    pace_ns: u64,
    /// The driver's requests are waited for by time, and when that passed, there was nothing.
    timed: bool,
    missed: bool,
}

impl Gather {
    /// Requests begin to be in flight after none were.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.sample = 0;
        self.sample_start = now_ns;
    }

    /// So many requests have just been returned to the driver.
    pub(super) fn completed(&mut self, count: u32, now_ns: u64) {
        self.missed = count == 0 && self.timed;
        self.timed = false;
        if count == 0 {
            return;
        }
        if self.held == 0 {
            self.held_since = now_ns;
        }
        self.held += count;
        self.sample += count;
        let elapsed = now_ns.saturating_sub(self.sample_start);
        if elapsed >= SAMPLE_MIN_NS {
            let pace = elapsed / u64::from(self.sample);
            self.pace_ns = if self.pace_ns == 0 { pace } else { (3 * self.pace_ns + pace) / 4 };
            self.begin(now_ns);
        }
    }

    /// Whether the driver is to be told now; it is then taken to know of everything.
    pub(super) fn due(&mut self, in_flight: u32, now_ns: u64) -> bool {
        if self.held == 0 || (self.missing(in_flight).is_some() && !self.overdue(now_ns)) {
            return false;
        }
        self.held = 0;
        true
    }

    /// The driver was told of everything.
    pub(super) fn told(&mut self) {
        self.held = 0;
    }

    /// Completions are held.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// When to look again while something is in flight.
    pub(super) fn wake(&mut self, in_flight: u32, now_ns: u64) -> Wake {
        let wake = self.choose(in_flight, now_ns);
        self.timed = wake != Wake::AtNext;
        wake
    }

    fn choose(&self, in_flight: u32, now_ns: u64) -> Wake {
        let left = if self.held == 0 {
            HOLD_MAX_NS
        } else {
            (self.held_since + HOLD_MAX_NS).saturating_sub(now_ns)
        };
        match self.missing(in_flight) {
            Some(time) if self.held > 0 => Wake::After(time.min(left).max(1)),
            Some(time) if !self.missed => Wake::After(time.min(left)),
            _ => Wake::AtNext,
        }
    }

    /// The time that is likely to pass until enough has completed, if that is worth waiting for.
    fn missing(&self, in_flight: u32) -> Option<u64> {
        let total = self.held + in_flight;
        let wanted = (total / 2).max(1);
        if total < GATHER_FROM || self.held >= wanted || self.pace_ns == 0 {
            return None;
        }
        let time = u64::from(wanted - self.held).saturating_mul(self.pace_ns);
        (time <= HOLD_MAX_NS).then_some(time)
    }

    fn overdue(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.held_since) >= HOLD_MAX_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: u64 = 2_000_000_000;

    /// A gatherer that has seen a completion every `pace` nanoseconds.
    fn paced(pace: u64) -> Gather {
        let mut gather = Gather::default();
        gather.begin(0);
        gather.completed(1000, 1000 * pace);
        assert!(gather.due(0, 1000 * pace));
        gather.begin(LATER);
        gather
    }

    #[test]
    fn few_requests_are_told_at_once() {
        for in_flight in 0..GATHER_FROM - 1 {
            let mut gather = paced(5_000);
            gather.completed(1, LATER);
            assert_eq!(gather.wake(in_flight, LATER), Wake::AtNext);
            assert!(gather.due(in_flight, LATER));
        }
    }

    #[test]
    fn half_of_many_is_told_together() {
        let mut gather = paced(5_000);
        let now = LATER;
        assert_eq!(gather.wake(32, now), Wake::After(16 * 5_000));
        gather.completed(10, now);
        assert!(!gather.due(22, now) && gather.holds());
        assert_eq!(gather.wake(22, now), Wake::After(6 * 5_000));
        gather.completed(6, now + 30_000);
        assert!(gather.due(16, now + 30_000) && !gather.holds());
        assert!(!gather.due(16, now + 30_000), "told once");
    }

    #[test]
    fn nothing_is_held_for_long() {
        let mut gather = paced(1_000);
        let now = LATER;
        gather.completed(1, now);
        assert!(!gather.due(31, now + HOLD_MAX_NS - 1));
        assert!(gather.due(31, now + HOLD_MAX_NS));
    }

    #[test]
    fn a_slow_disk_is_not_waited_for() {
        let mut gather = paced(1_000_000);
        gather.completed(1, LATER);
        assert!(gather.due(31, LATER));
        assert_eq!(gather.wake(31, LATER), Wake::AtNext);
    }

    #[test]
    fn time_that_passed_in_vain_is_not_spent_again() {
        let mut gather = paced(5_000);
        assert!(matches!(gather.wake(32, LATER), Wake::After(_)));
        gather.completed(0, LATER + 80_000);
        assert_eq!(gather.wake(32, LATER + 80_000), Wake::AtNext);
    }
}
