//! What is asked of a disk, by whoever reads.

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// What the names of its figures begin with.
    pub(super) name: &'static str,
    /// What people read.
    pub(super) title: &'static str,
    /// What fio calls it.
    pub(super) fio: &'static str,
    /// What the guest calls it.
    pub(super) guest: &'static str,
    /// Bytes of a request.
    pub(super) bytes: u64,
    /// Requests that are outstanding all the time.
    pub(super) depth: u64,
}

/// All loads.
pub(super) const LOADS: [Load; 3] = [
    Load {
        name: "rand_read",
        title: "random reads of 4 KiB, 32 at a time",
        fio: "randread",
        guest: "random-read",
        bytes: 4 << 10,
        depth: 32,
    },
    Load {
        name: "rand_read_1",
        title: "random reads of 4 KiB, one at a time",
        fio: "randread",
        guest: "random-read",
        bytes: 4 << 10,
        depth: 1,
    },
    Load {
        name: "seq_read",
        title: "sequential reads of 1 MiB, 8 at a time",
        fio: "read",
        guest: "sequential-read",
        bytes: 1 << 20,
        depth: 8,
    },
];

/// How far a reader came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Came {
    /// Requests per second.
    pub(super) requests_per_s: f64,
    /// Exits of the guest per request; none for a reader that is no guest.
    pub(super) exits_per_request: Option<f64>,
}

impl Came {
    /// The time a request takes on average, by Little's law, in microseconds.
    pub(super) fn latency_us(self, load: Load) -> f64 {
        load.depth as f64 / self.requests_per_s * 1e6
    }
}
