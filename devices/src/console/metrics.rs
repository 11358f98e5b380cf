//! What a console counts.

/// Counters of one console since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleMetrics {
    /// Buffers of the guest that were written out whole.
    pub output_buffers: u64,
    /// Bytes of the guest that were written out.
    pub output_bytes: u64,
    /// Times output had to wait because its reader was slow.
    pub output_waits: u64,
    /// Buffers that were given to the guest with input.
    pub input_buffers: u64,
    /// Bytes of input given to the guest.
    pub input_bytes: u64,
}

impl ConsoleMetrics {
    /// The counters by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 5] {
        [
            ("output_buffers", self.output_buffers),
            ("output_bytes", self.output_bytes),
            ("output_waits", self.output_waits),
            ("input_buffers", self.input_buffers),
            ("input_bytes", self.input_bytes),
        ]
    }
}
