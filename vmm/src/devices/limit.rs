//! Rate limits of devices, of what the launcher says.

use denali_devices::rate::{RateLimiter, TokenBucket};
use denali_launcher::spec::{BucketSpec, LimitSpec};

/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

pub(super) fn limiter(limit: LimitSpec) -> RateLimiter {
    RateLimiter::new(limit.bandwidth.map(bucket), limit.ops.map(bucket))
}

fn bucket(bucket: BucketSpec) -> TokenBucket {
    let refill_ns = bucket.refill_ms.saturating_mul(MILLISECOND);
    TokenBucket::new(bucket.size, bucket.one_time_burst, refill_ns)
}
