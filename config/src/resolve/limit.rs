//! Rate limits, checked.

use crate::error::FieldError;
use crate::written::LimitConfig;

/// Longest time in which an empty bucket becomes full, in ms: a day.
const REFILL_MAX: u64 = 86_400_000;

/// Limits of what a device carries; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bandwidth: Option<Bucket>,
    /// Operations.
    pub ops: Option<Bucket>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Tokens that it holds, at least 1.
    pub size: u64,
    /// Tokens that may be taken once, beside those in the bucket.
    pub one_time_burst: u64,
    /// Milliseconds in which it becomes full, at least 1.
    pub refill_ms: u64,
}

/// Checks the limit written in `field`; none is no limit.
pub(super) fn resolve(config: Option<&LimitConfig>, field: &str) -> Result<Limit, FieldError> {
    let Some(config) = config else { return Ok(Limit::default()) };
    let bandwidth = config.bandwidth.map(|bytes| Bucket {
        size: bytes.size.0,
        one_time_burst: bytes.one_time_burst.0,
        refill_ms: bytes.refill_time,
    });
    let ops = config.ops.map(|ops| Bucket {
        size: ops.size,
        one_time_burst: ops.one_time_burst,
        refill_ms: ops.refill_time,
    });
    for (bucket, name) in [(bandwidth, "bandwidth"), (ops, "ops")] {
        bucket.map_or(Ok(()), |bucket| check(bucket, &format!("{field}.{name}")))?;
    }
    Ok(Limit { bandwidth, ops })
}

fn check(bucket: Bucket, field: &str) -> Result<(), FieldError> {
    if bucket.size == 0 {
        let message =
            "is 0, which would let nothing pass; write at least 1, or leave the limit out";
        return Err(FieldError::new(format!("{field}.size"), message));
    }
    if !(1..=REFILL_MAX).contains(&bucket.refill_ms) {
        let message = format!(
            "{} is out of range; write a number of milliseconds from 1 to {REFILL_MAX}",
            bucket.refill_ms
        );
        return Err(FieldError::new(format!("{field}.refill_time"), message));
    }
    Ok(())
}
