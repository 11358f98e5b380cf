//! Rate limits as the monitor is told of them.

use denali_config::{Bucket, Limit};
use serde::{Deserialize, Serialize};

/// Limits of what a device carries; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Bytes.
    pub bandwidth: Option<BucketSpec>,
    /// Operations.
    pub ops: Option<BucketSpec>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSpec {
    /// Tokens that it holds, at least 1.
    pub size: u64,
    /// Tokens that may be taken once, beside those in the bucket.
    pub one_time_burst: u64,
    /// Milliseconds in which it becomes full, at least 1.
    pub refill_ms: u64,
}

impl From<Limit> for LimitSpec {
    fn from(limit: Limit) -> Self {
        Self {
            bandwidth: limit.bandwidth.map(BucketSpec::from),
            ops: limit.ops.map(BucketSpec::from),
        }
    }
}

impl From<Bucket> for BucketSpec {
    fn from(bucket: Bucket) -> Self {
        let Bucket { size, one_time_burst, refill_ms } = bucket;
        Self { size, one_time_burst, refill_ms }
    }
}
