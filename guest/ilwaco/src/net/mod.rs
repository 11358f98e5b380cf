//! TCP/IP: asynchronous sockets over the first network card.
//!
//! The card is started by the first socket, and takes its address from the device table. All frames
//! that have arrived are taken in before tasks run, and what tasks and protocols have to send goes
//! out after them, so that acknowledgements travel with answers and a whole batch costs one exit.
//!
//! When the guest turns out to be a copy that has other addresses, the card goes by those from then on.
//! Connections of the old address break off, without a word to the other side, with which the original
//! talks on; listeners and UDP sockets stay.

mod dns;
mod identity;
mod stack;
mod tcp;
mod udp;

pub use dns::resolve;
pub use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;

use core::fmt;

/// Why a network operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No network card is attached, or it does not work.
    NoDevice,
    /// The card has no IPv4 address, or the other side's address cannot be reached from it.
    NoAddress,
    /// Too little memory, or too many sockets.
    OutOfMemory,
    /// The port is 0, or something listens on it already.
    BadPort,
    /// The other side refused or reset the connection, or no longer answers.
    Reset,
    /// The connection is closed in this direction.
    Closed,
    /// The datagram is larger than the socket's buffer or the destination is not valid.
    BadDatagram,
    /// There is no name server that this guest may ask.
    NoNameServer,
    /// No host can have such a name.
    BadName,
    /// This guest may not ask for this name.
    NameRefused,
    /// The name means no address.
    NoSuchName,
    /// The name server does not answer, or cannot find out.
    NoAnswer,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevice => "no usable network card is attached",
            Self::NoAddress => "the network card has no address from which this can be reached",
            Self::OutOfMemory => "too little memory for another socket",
            Self::BadPort => "the port is 0 or in use",
            Self::Reset => "the connection was refused or reset",
            Self::Closed => "the connection is closed",
            Self::BadDatagram => "the datagram is too large or its destination is not valid",
            Self::NoNameServer => "there is no name server to ask",
            Self::BadName => "no host can have this name",
            Self::NameRefused => "this name may not be asked for",
            Self::NoSuchName => "this name means no address",
            Self::NoAnswer => "the name server does not answer",
        })
    }
}

impl core::error::Error for Error {}

/// This guest's IPv4 address. A copy of the guest may have another one.
///
/// # Errors
/// [`Error::NoDevice`] and [`Error::NoAddress`].
pub fn address() -> Result<Ipv4Address, Error> {
    stack::with(|stack| stack.address().ok_or(Error::NoAddress))?
}

/// The network card's hardware address. A copy of the guest has another one.
///
/// # Errors
/// [`Error::NoDevice`].
pub fn hardware_address() -> Result<[u8; 6], Error> {
    stack::with(|stack| stack.hardware_address())
}
