//! What a back end reports when the host fails it.

use crate::StateError;
use std::io;

/// A failure of the host, not of the guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or ioctl failed while doing `what`.
    #[error("{what}: {source}")]
    Host {
        /// What the back end was doing.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The host's KVM lacks something the back end needs.
    #[error("this host's KVM cannot run Denali guests: {0}")]
    Unsupported(&'static str),
    /// A saved state cannot be restored here.
    #[error("the saved state {0}")]
    State(#[from] StateError),
    /// The back end was used in a way its contract forbids: a defect of the monitor.
    #[error("hypervisor misused: {0}")]
    Misuse(&'static str),
}

impl Error {
    /// A failure of the last system call, whose error number `errno` holds.
    #[must_use]
    pub fn last(what: &'static str) -> Self {
        Self::Host { what, source: io::Error::last_os_error() }
    }

    /// A closure that wraps an error number while doing `what`.
    pub fn host<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Host { what, source: error.into() }
    }
}
