//! Counters of a block device.

/// What a block device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockMetrics {
    /// Reads completed well.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Writes completed well.
    pub writes: u64,
    /// Their bytes.
    pub write_bytes: u64,
    /// Flushes completed well.
    pub flushes: u64,
    /// Discards completed well.
    pub discards: u64,
    /// Write-zeroes completed well.
    pub write_zeroes: u64,
    /// Requests refused without being tried: malformed, out of range, not supported.
    pub refused: u64,
    /// Requests that the back end failed.
    pub errors: u64,
    /// Times requests waited for the rate limit.
    pub throttled: u64,
    /// Times completions were held to be told together.
    pub held: u64,
}

impl BlockMetrics {
    /// All counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 11] {
        [
            ("reads", self.reads),
            ("read_bytes", self.read_bytes),
            ("writes", self.writes),
            ("write_bytes", self.write_bytes),
            ("flushes", self.flushes),
            ("discards", self.discards),
            ("write_zeroes", self.write_zeroes),
            ("refused", self.refused),
            ("errors", self.errors),
            ("throttled", self.throttled),
            ("held", self.held),
        ]
    }
}
