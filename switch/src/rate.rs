//! Rate limits in a number each: the moment up to which a limit is used up.

/// What may pass at once after a pause: as much as comes back in this time, in ns.
const BURST_NS: u64 = 100_000_000;

/// A limit of bytes a second, in one direction of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The moment up to which it is used up, in ns.
    used_until: u64,
}

impl Limit {
    /// Whether something may pass at a `rate`, of which 0 is no limit. What is larger than there is left passes too, and
    /// all after it waits.
    pub fn passes(self, rate: u64, now_ns: u64) -> bool {
        rate == 0 || self.ready_at() <= now_ns
    }

    /// Counts what has passed.
    pub fn charge(&mut self, rate: u64, bytes: usize, now_ns: u64) {
        if rate == 0 {
            return;
        }
        let takes = (bytes as u64).saturating_mul(1_000_000_000).div_ceil(rate);
        self.used_until = self.used_until.max(now_ns).saturating_add(takes);
    }

    /// When something may pass again.
    pub fn ready_at(self) -> u64 {
        self.used_until.saturating_sub(BURST_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_allows_a_burst_and_no_limit_everything() {
        let mut limit = Limit::default();
        let rate = 10_000;
        let mut passed = 0;
        while limit.passes(rate, 5) {
            limit.charge(rate, 100, 5);
            passed += 100;
        }
        assert_eq!(passed, 1100, "a tenth of a second's, and one more");
        assert!(limit.passes(0, 5));
        assert!(!limit.passes(rate, limit.ready_at() - 1));
        assert!(limit.passes(rate, limit.ready_at()));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_rate(
            rate in 1_u64..1_000_000_000,
            steps in prop::collection::vec((1_usize..2000, 0_u64..1_000_000_000), 1..200),
        ) {
            let mut limit = Limit::default();
            let (mut now, mut passed) = (0_u64, 0_u64);
            for (bytes, pause) in steps {
                now += pause;
                if limit.passes(rate, now) {
                    limit.charge(rate, bytes, now);
                    passed += bytes as u64;
                }
                let most = u128::from(now + BURST_NS) * u128::from(rate) / 1_000_000_000;
                prop_assert!(u128::from(passed) <= most + 2000);
            }
        }
    }
}
