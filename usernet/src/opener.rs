//! Who opens connections for a gateway: it opens none itself.

use std::net::SocketAddrV4;
use std::os::fd::{OwnedFd, RawFd};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is not allowed.
    Denied,
    /// The other side refuses it, does not answer, or cannot be reached.
    Unreachable,
    /// Too much was asked for at once: the guest may try again.
    Busy,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Not now: the guest may try again.
    Later,
    /// Neither now nor later.
    Never,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// A connected, non-blocking socket.
    Connected {
        /// Number of the request.
        id: u32,
        /// The socket.
        socket: OwnedFd,
    },
    /// No socket, and no answer.
    Failed {
        /// Number of the request.
        id: u32,
        /// Why.
        why: Failure,
    },
    /// An answer to a question about a name.
    Resolved {
        /// Number of the request.
        id: u32,
        /// A DNS message.
        message: &'a [u8],
    },
    /// The opener is gone: nothing comes any more.
    Gone,
}

/// Opens connections for the guest, where that is allowed. Nothing here blocks, and every request that
/// was taken has one outcome.
pub trait Opener {
    /// Asks for a socket that is connected to `to`, an address as the guest knows it.
    ///
    /// # Errors
    /// [`Untaken`], when nothing will come of it.
    fn connect(&mut self, id: u32, protocol: Protocol, to: SocketAddrV4) -> Result<(), Untaken>;

    /// Asks what a DNS message asks.
    ///
    /// # Errors
    /// [`Untaken`], when nothing will come of it.
    fn resolve(&mut self, id: u32, question: &[u8]) -> Result<(), Untaken>;

    /// The next outcome, if there is one.
    fn next(&mut self) -> Option<Outcome<'_>>;

    /// A descriptor that is readable when there is an outcome.
    fn as_raw_fd(&self) -> RawFd;
}
