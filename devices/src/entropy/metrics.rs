//! What an entropy device counts.

/// Counters of one entropy device since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntropyMetrics {
    /// Buffers that were returned to the guest.
    pub requests: u64,
    /// Random bytes in them.
    pub bytes: u64,
    /// Times a buffer had to wait for the rate limit.
    pub throttled: u64,
    /// Times the host had no random bytes.
    pub unavailable: u64,
}

impl EntropyMetrics {
    /// The counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 4] {
        [
            ("requests", self.requests),
            ("bytes", self.bytes),
            ("throttled", self.throttled),
            ("unavailable", self.unavailable),
        ]
    }
}
