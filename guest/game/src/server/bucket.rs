//! A token bucket: so many events per second, and a burst of some more.

const SECOND_NS: u64 = 1_000_000_000;

/// A token bucket. It is full at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// ns after which one more event is allowed.
    interval_ns: u64,
    /// ns of allowance at most.
    most_ns: u64,
    /// Allowance in ns, at `at_ns`.
    level_ns: u64,
    at_ns: u64,
}

impl Bucket {
    /// Allows `per_s` events per second, and `burst` at once; both at least 1.
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        let interval_ns = SECOND_NS / u64::from(per_s.max(1));
        let most_ns = interval_ns * u64::from(burst.max(1));
        Self { interval_ns, most_ns, level_ns: most_ns, at_ns: 0 }
    }

    /// Takes one event's allowance; false if there is none.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.at_ns);
        self.at_ns = self.at_ns.max(now_ns);
        self.level_ns = self.level_ns.saturating_add(passed).min(self.most_ns);
        let allowed = self.level_ns >= self.interval_ns;
        if allowed {
            self.level_ns -= self.interval_ns;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_per_second() {
        let mut bucket = Bucket::new(10, 3);
        let mut allowed = |now_ns, count| (0..count).filter(|_| bucket.take(now_ns)).count();
        assert_eq!(allowed(SECOND_NS, 9), 3);
        assert_eq!(allowed(2 * SECOND_NS, 9), 3, "no more than the burst gathers");
        let steady = (0..100).map(|n| allowed(2 * SECOND_NS + (n + 1) * SECOND_NS / 100, 1));
        assert_eq!(steady.sum::<usize>(), 10);
        assert_eq!(allowed(0, 1), 0, "time that runs backwards gives nothing");
    }
}
