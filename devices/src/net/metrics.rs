//! What a network card counts.

/// Counters of one network card since it was made. "Transmit" is from the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetMetrics {
    /// Frames taken from the guest.
    pub transmit_frames: u64,
    /// Bytes of those frames, without the virtio header.
    pub transmit_bytes: u64,
    /// Frames of the guest dropped because they were too short, too long, or their header was wrong.
    pub transmit_errors: u64,
    /// Frames given to the guest.
    pub receive_frames: u64,
    /// Bytes of those frames, without the virtio header.
    pub receive_bytes: u64,
    /// Frames for the guest dropped because its buffer was too small for them.
    pub receive_errors: u64,
    /// Times a frame had to wait because the guest had no buffer for it.
    pub receive_starved: u64,
}

impl NetMetrics {
    /// The counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 7] {
        [
            ("transmit_frames", self.transmit_frames),
            ("transmit_bytes", self.transmit_bytes),
            ("transmit_errors", self.transmit_errors),
            ("receive_frames", self.receive_frames),
            ("receive_bytes", self.receive_bytes),
            ("receive_errors", self.receive_errors),
            ("receive_starved", self.receive_starved),
        ]
    }
}
