//! Swapping, control and what a guest continues from, as the monitor is told of them.

use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// Most bytes of a guest's state beside its memory, in regions that are made now.
pub const STATE_MAX: u32 = 256 << 10;

/// Where the guest's memory goes while it idles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapSpec {
    /// The files over which the region is striped, in order, each locked and reserved in whole units.
    pub files: Vec<RawFd>,
    /// Whether all of them were opened with O_DIRECT.
    pub direct: bool,
    /// Bytes that stay together in one of them: a power of two, at least a page.
    pub unit: u64,
    /// Most pages that may be out at a time.
    pub capacity: u32,
    /// Most bytes of the guest's state beside its memory.
    pub state_max: u32,
    /// Whom the region belongs to: 32 hexadecimal digits.
    pub guest_id: String,
    /// The reading end of a pipe with the guest's key: 32 bytes, and the end.
    pub key: RawFd,
    /// The guest's key under the host's, to be kept in the superblock: hexadecimal digits.
    pub wrapped: Option<String>,
    /// Whether the region outlives the monitor: only then the guest can be parked.
    pub lasting: bool,
    /// Whether what leaves memory is encrypted.
    pub encrypt: bool,
    /// Whether the pages that were needed last time are read ahead at a wake.
    pub prefetch: bool,
    /// After how much idling the guest is swapped out, in ns; `None` = only when it is told to.
    pub after_ns: Option<u64>,
    /// When it is parked; `None` = only when it is told to.
    pub park: Option<ParkSpec>,
    /// Most pages that are resident while it runs; `None` = all of them.
    pub resident_limit: Option<u64>,
    /// `/dev/userfaultfd`; without it, a wake reads everything at once.
    pub userfault: Option<RawFd>,
}

/// When a guest is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParkSpec {
    /// After how much idling, in ns.
    pub after_ns: u64,
    /// Not if its next deadline is nearer than this, in ns.
    pub horizon_ns: u64,
}

/// Where the monitor takes commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSpec {
    /// A listening, non-blocking SOCK_SEQPACKET socket for people.
    pub listener: Option<RawFd>,
    /// A connected, non-blocking SOCK_SEQPACKET socket: the guest's keeper is at the other end.
    pub channel: Option<RawFd>,
    /// The guest's configuration as JSON, for snapshots: a document whose paths are absolute. Only where
    /// there is a socket to ask for one.
    pub configuration: Option<String>,
}

/// What a guest continues from, instead of its image's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum ResumeSpec {
    /// The state in its swap region.
    Parked {
        /// The commit that whoever parked it remembers, or its successor; `None` = the newest one there is.
        commit: Option<CommitSpec>,
    },
    /// A snapshot, which the launcher has checked.
    Snapshot {
        /// The file, open for reading.
        file: RawFd,
        /// Where in it the guest's state is: position, and bytes.
        state: (u64, u64),
        /// Where in it the guest's memory begins.
        memory: u64,
    },
}

/// A state of a swap region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSpec {
    /// Its number.
    pub sequence: u64,
    /// The SHA-256 of its manifest: 64 hexadecimal digits.
    pub root: String,
}
