//! What a front end counts.

/// Counters of one device since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metrics {
    /// Chains the driver made available.
    pub requests: u64,
    /// Chains the back end returned.
    pub completed: u64,
    /// Times the back end was told of new chains.
    pub kicks: u64,
    /// Times the back end told of returned chains, several at once counted as one.
    pub calls: u64,
    /// Times the connection was lost or given up.
    pub disconnects: u64,
    /// Times a back end took over the queues of another.
    pub reconnects: u64,
    /// Chains that were out when a back end went, and given to the next.
    pub resubmitted: u64,
}

impl Metrics {
    /// The counters by name.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("requests", self.requests),
            ("completed", self.completed),
            ("kicks", self.kicks),
            ("calls", self.calls),
            ("disconnects", self.disconnects),
            ("reconnects", self.reconnects),
            ("resubmitted", self.resubmitted),
        ]
    }
}
