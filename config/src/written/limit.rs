//! Rate limits as they are written in JSON: token buckets of bytes and of operations.

use crate::values::MemorySize;
use serde::{Deserialize, Serialize};

/// Limits of what a device carries. Both hold where both are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthConfig>,
    /// Operations: frames of a network device, requests of other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<OperationsConfig>,
}

/// A token bucket of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BandwidthConfig {
    /// Bytes that the bucket holds: `"10MiB"`, or a number.
    pub size: MemorySize,
    /// Bytes that may go once, at the start, beside those in the bucket.
    #[serde(default = "no_bytes", skip_serializing_if = "is_no_bytes")]
    pub one_time_burst: MemorySize,
    /// Milliseconds in which an empty bucket becomes full, 1 to 86,400,000.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400_000)))]
    pub refill_time: u64,
}

/// A token bucket of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OperationsConfig {
    /// Operations that the bucket holds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub size: u64,
    /// Operations that may go once, at the start, beside those in the bucket.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub one_time_burst: u64,
    /// Milliseconds in which an empty bucket becomes full, 1 to 86,400,000.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 86_400_000)))]
    pub refill_time: u64,
}

fn no_bytes() -> MemorySize {
    MemorySize(0)
}

fn is_no_bytes(size: &MemorySize) -> bool {
    size.0 == 0
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
