//! What a network card counts.

/// Counters of one network card since it was made. "Transmit" is from the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetMetrics {
    /// Frames taken from the guest.
    pub transmit_frames: u64,
    /// Packets those frames are or are cut into.
    pub transmit_packets: u64,
    /// Bytes of those frames, without the virtio header.
    pub transmit_bytes: u64,
    /// Frames of the guest dropped because they were too short, too long, or their header was wrong.
    pub transmit_errors: u64,
    /// Times frames of the guest had to wait for the rate limit.
    pub transmit_throttled: u64,
    /// Frames given to the guest.
    pub receive_frames: u64,
    /// Packets those frames are or were made of.
    pub receive_packets: u64,
    /// Bytes of those frames, without the virtio header.
    pub receive_bytes: u64,
    /// Frames for the guest dropped: too large for it or its buffers, or not as it was agreed.
    pub receive_errors: u64,
    /// Times a frame had to wait because the guest had too few buffers for it.
    pub receive_starved: u64,
    /// Times frames for the guest had to wait for the rate limit.
    pub receive_throttled: u64,
}

impl NetMetrics {
    /// The counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 11] {
        [
            ("transmit_frames", self.transmit_frames),
            ("transmit_packets", self.transmit_packets),
            ("transmit_bytes", self.transmit_bytes),
            ("transmit_errors", self.transmit_errors),
            ("transmit_throttled", self.transmit_throttled),
            ("receive_frames", self.receive_frames),
            ("receive_packets", self.receive_packets),
            ("receive_bytes", self.receive_bytes),
            ("receive_errors", self.receive_errors),
            ("receive_starved", self.receive_starved),
            ("receive_throttled", self.receive_throttled),
        ]
    }
}
