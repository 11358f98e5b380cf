//! Console and entropy devices as the monitor is told of them.

use super::limit::LimitSpec;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// One console device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSpec {
    /// Name of the device.
    pub name: String,
    /// What it is connected to.
    pub backend: ConsoleBackendSpec,
}

/// What a console device is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum ConsoleBackendSpec {
    /// Standard input and output.
    Terminal,
    /// Files.
    File {
        /// Where input comes from.
        input: Option<RawFd>,
        /// Where output goes.
        output: Option<RawFd>,
    },
    /// A listening Unix stream socket.
    Socket {
        /// The listener, non-blocking.
        listener: RawFd,
    },
}

/// One entropy device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropySpec {
    /// Name of the device.
    pub name: String,
    /// Limits of what it gives.
    pub limit: LimitSpec,
}
