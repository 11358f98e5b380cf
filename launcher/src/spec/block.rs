//! Block devices as the monitor is told of them.

use super::limit::LimitSpec;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSpec {
    /// Name of the device.
    pub name: String,
    /// Whether the guest can only read.
    pub read_only: bool,
    /// Limits of what it carries.
    pub limit: LimitSpec,
    /// Where the bytes are.
    pub backend: BlockBackendSpec,
}

/// Where the bytes of a block device are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum BlockBackendSpec {
    /// A file or a block device of the host, locked for this guest as far as it writes.
    File {
        /// The file, open for what the guest may do.
        file: RawFd,
        /// Whether it was opened with O_DIRECT.
        direct: bool,
        /// How it is read and written.
        io: IoSpec,
    },
    /// A vhost-user back end.
    VhostUser {
        /// The connection to it.
        socket: RawFd,
        /// Channel to the broker, which connects anew.
        broker: RawFd,
    },
}

/// How a file is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoSpec {
    /// By io_uring where the host has it, else one request after the other.
    Auto,
    /// By io_uring, or not at all.
    IoUring,
    /// One request after the other.
    Sync,
}
