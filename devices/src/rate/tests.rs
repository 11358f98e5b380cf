//! Tests of rate limits.

use super::*;
use crate::state::{BucketState, LimiterState};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn bandwidth(size: u64, burst: u64, refill_ns: u64) -> RateLimiter {
    RateLimiter::new(Some(TokenBucket::new(size, burst, refill_ns)), None)
}

#[test]
fn without_limits_everything_passes() {
    let mut limiter = RateLimiter::default();
    assert!(!limiter.limits());
    assert!((0..1000).all(|_| limiter.consume(u64::MAX, 0)));
    assert_eq!(limiter.ready_at(), None);
}

#[test]
fn a_bucket_begins_full_and_fills_in_its_time() {
    let mut limiter = bandwidth(1000, 0, SECOND);
    assert!(limiter.consume(1000, 5));
    assert!(!limiter.consume(250, 5));
    assert_eq!(limiter.ready_at(), Some(5 + SECOND / 4));
    assert!(!limiter.consume(250, 4 + SECOND / 4));
    assert!(limiter.consume(250, 5 + SECOND / 4));
    assert_eq!(limiter.ready_at(), None);
}

#[test]
fn a_burst_comes_once_and_first() {
    let mut limiter = bandwidth(100, 500, SECOND);
    assert!(limiter.consume(500, 1));
    assert!(limiter.consume(100, 1), "the burst left the bucket alone");
    assert!(!limiter.consume(1, 1));
    assert!(limiter.consume(100, 1 + SECOND));
    assert!(!limiter.consume(1, 1 + SECOND), "the burst does not come back");
}

#[test]
fn what_is_larger_than_the_bucket_waits_until_it_is_full_and_leaves_a_debt() {
    let mut limiter = bandwidth(100, 0, SECOND);
    assert!(limiter.consume(1, 0));
    assert!(!limiter.consume(350, 0));
    assert_eq!(limiter.ready_at(), Some(SECOND / 100));
    let full = SECOND / 100;
    assert!(limiter.consume(350, full));
    assert!(!limiter.consume(0, full));
    assert_eq!(limiter.ready_at(), Some(full + SECOND * 5 / 2));
    assert!(!limiter.consume(100, full + SECOND * 5 / 2));
    assert_eq!(limiter.ready_at(), Some(full + SECOND * 7 / 2));
}

#[test]
fn both_limits_hold_and_a_refusal_takes_nothing() {
    let ops = TokenBucket::new(2, 0, SECOND);
    let mut limiter = RateLimiter::new(Some(TokenBucket::new(100, 0, SECOND)), Some(ops));
    assert!(limiter.consume(90, 0));
    assert!(!limiter.consume(20, 0));
    assert!(limiter.consume(10, 0), "the refused operation was not counted");
    assert!(!limiter.consume(0, 0));
    assert_eq!(limiter.ready_at(), Some(SECOND / 2));
    limiter.refund(0);
    assert!(limiter.consume(0, 0));
}

#[test]
fn sizes_may_be_known_late() {
    let mut limiter = bandwidth(100, 0, SECOND);
    assert!(limiter.passes(0, 0));
    limiter.charge(150);
    assert!(!limiter.passes(0, 0));
    assert_eq!(limiter.ready_at(), Some(SECOND / 2));
    limiter.forget();
    assert_eq!(limiter.ready_at(), None);
}

#[test]
fn extremes_neither_overflow_nor_divide_by_zero() {
    for size in [0, 1, u64::MAX] {
        for refill in [0, 1, u64::MAX] {
            let mut limiter = bandwidth(size, u64::MAX, refill);
            for now in [0, u64::MAX, 7] {
                limiter.consume(u64::MAX, now);
                limiter.charge(u64::MAX);
                limiter.consume(1, now);
                limiter.refund(u64::MAX);
            }
        }
    }
}

proptest! {
    /// Over any span that begins at the start, no more passes than bucket, burst, what came back, and
    /// the excess of one operation that is larger than the bucket.
    #[test]
    fn no_more_passes_than_the_limit(
        size in 1_u64..10_000,
        burst in 0_u64..20_000,
        refill_ns in 1_u64..10 * SECOND,
        steps in prop::collection::vec((0_u64..30_000, 0_u64..SECOND), 1..200),
    ) {
        let mut limiter = bandwidth(size, burst, refill_ns);
        let (mut now, mut passed, mut excess) = (0, 0, 0);
        for (bytes, pause) in steps {
            now += pause;
            if limiter.consume(bytes, now) {
                passed += bytes;
                excess = excess.max(bytes.saturating_sub(size));
            }
            let back = u128::from(now) * u128::from(size) / u128::from(refill_ns);
            prop_assert!(u128::from(passed) <= u128::from(size + burst + excess) + back);
        }
    }

    /// Who waits until he is told passes then, and not a nanosecond earlier: so nothing waits longer
    /// than the limit demands, and a device that sleeps until then never wakes in vain.
    #[test]
    fn what_waits_passes_exactly_when_it_is_told(
        size in 1_u64..10_000,
        burst in 0_u64..20_000,
        refill_ns in 1_u64..10 * SECOND,
        operations in prop::collection::vec(0_u64..30_000, 1..100),
    ) {
        let mut limiter = bandwidth(size, burst, refill_ns);
        let (mut now, mut total) = (0_u64, 0_u64);
        for bytes in operations {
            if !limiter.consume(bytes, now) {
                let ready = limiter.ready_at().unwrap();
                prop_assert!(ready > now);
                let before = limiter.clone();
                prop_assert!(!limiter.consume(bytes, ready - 1));
                prop_assert_eq!(limiter.ready_at(), before.ready_at());
                now = ready;
                prop_assert!(limiter.consume(bytes, now));
            }
            total += bytes;
        }
        // Nothing was idle for longer than it takes to bring back what passed, and fill the bucket
        // for each operation.
        let owed = u128::from(total) * u128::from(refill_ns) / u128::from(size);
        prop_assert!(u128::from(now) <= owed + 200 * u128::from(refill_ns));
    }

    /// A limit that is saved and restored again and again lets nothing through earlier, and later by a
    /// nanosecond at most for each time.
    #[test]
    fn a_limit_goes_on_elsewhere(
        size in 1_u64..10_000,
        burst in 0_u64..20_000,
        refill_ns in 1_u64..10 * SECOND,
        steps in prop::collection::vec((0_u64..30_000, 0_u64..SECOND, any::<bool>()), 1..100),
    ) {
        let mut stays = bandwidth(size, burst, refill_ns);
        let mut moves = stays.clone();
        let (mut now, mut moved) = (0, 0);
        for (bytes, pause, with_move) in steps {
            now += pause;
            if with_move {
                moved += 1;
                let state = moves.save();
                moves = bandwidth(size, burst, refill_ns);
                moves.restore(&state);
            }
            let passes = stays.passes(bytes, now);
            let later = moves.passes(bytes, now);
            prop_assert!(passes || !later, "earlier");
            let ready = stays.ready_at().unwrap_or(now);
            prop_assert!(moves.ready_at().is_none_or(|at| (ready..=ready + moved).contains(&at)));
            now = ready + moved;
            prop_assert!(stays.consume(bytes, now) && moves.consume(bytes, now));
        }
    }

    #[test]
    fn no_state_makes_a_limit_overflow(
        full_at_ns in any::<u64>(),
        left in any::<u64>(),
        size in any::<u64>(),
        burst in any::<u64>(),
        refill_ns in any::<u64>(),
        times in prop::collection::vec((any::<u64>(), any::<u64>()), 1..10),
    ) {
        let mut limiter = bandwidth(size, burst, refill_ns);
        let bucket = Some(BucketState { full_at_ns, burst: left });
        limiter.restore(&LimiterState { bandwidth: bucket, ops: bucket });
        for (now, bytes) in times {
            limiter.passes(bytes, now);
            limiter.charge(bytes);
        }
        prop_assert!(limiter.save().bandwidth.unwrap().burst <= burst.min(left));
    }
}
