//! The time-stamp counter: the one clock that host and guest read alike.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the counter is compared with the host's clock.
const COMPARED: Duration = Duration::from_millis(200);

/// The counter.
pub(super) fn now() -> u64 {
    // SAFETY: the instruction has no effect but its result, and every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How fast the counter counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_us: f64,
}

impl Rate {
    /// Compares the counter with the host's clock.
    pub(super) fn measure() -> Self {
        let (start, ticks) = (Instant::now(), now());
        sleep(COMPARED);
        let (elapsed, ticks) = (start.elapsed(), now() - ticks);
        Self { per_us: ticks as f64 / elapsed.as_secs_f64() / 1e6 }
    }

    /// The time from one count to a later one in µs; `None` if it is earlier.
    pub(super) fn between(self, start: u64, end: u64) -> Option<f64> {
        Some(end.checked_sub(start)? as f64 / self.per_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_agrees_with_the_clock() {
        let rate = Rate::measure();
        let (start, before) = (Instant::now(), now());
        sleep(Duration::from_millis(20));
        let us = rate.between(before, now()).unwrap();
        // Both readings of the clock surround those of the counter.
        assert!(us <= start.elapsed().as_secs_f64() * 1e6 * 1.05, "{us}");
        assert!(us >= 19_000.0, "{us}");
        assert_eq!(rate.between(2, 1), None);
    }
}
