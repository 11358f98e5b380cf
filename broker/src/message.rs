//! Requests and answers as they travel on a channel: one datagram each, at most one descriptor.

use crate::rules::Protocol;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Most bytes of a question about a name.
pub const QUESTION_MAX: usize = 512;

/// Most bytes of a datagram on a channel.
pub const MESSAGE_MAX: usize = HEADER + 512;

/// Bytes before a question or an answer about a name.
const HEADER: usize = 16;

const CONNECT: u8 = 1;
const QUESTION: u8 = 2;
const RECONNECT: u8 = 3;
const CONNECTED: u8 = 4;
const FAILED: u8 = 5;
const RESOLVED: u8 = 6;

/// What is asked of the broker; each request is answered once, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A TCP connection, or a UDP socket that is connected.
    Connect {
        /// By which protocol.
        protocol: Protocol,
        /// Where to, as the guest says it.
        to: SocketAddrV4,
    },
    /// The answer to a DNS message.
    Question(&'a [u8]),
    /// A new connection to the channel's Unix socket.
    Reconnect,
}

/// Why something that was asked for is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// No rule allows it.
    Denied = 1,
    /// The other side refuses.
    Refused = 2,
    /// The other side does not answer.
    TimedOut = 3,
    /// There is no way there, or the host has no socket left.
    Unreachable = 4,
    /// Too much was asked for at once; it may be asked for again.
    Busy = 5,
}

/// An answer, without the descriptor that comes with `Connected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The socket, connected and non-blocking.
    Connected,
    /// There is none.
    Failed(Failure),
    /// A DNS message that answers the question, with the question's identification.
    Resolved(&'a [u8]),
}

impl Request<'_> {
    /// Writes the request into `buffer`; its length. A question that is too long is cut.
    pub fn encode(&self, id: u32, buffer: &mut [u8; MESSAGE_MAX]) -> usize {
        match self {
            Self::Connect { protocol, to } => {
                let length = encode(buffer, (CONNECT, *protocol as u8), id, &[]);
                buffer[2..4].copy_from_slice(&to.port().to_be_bytes());
                buffer[8..12].copy_from_slice(&to.ip().octets());
                length
            }
            Self::Question(message) => encode(buffer, (QUESTION, 0), id, message),
            Self::Reconnect => encode(buffer, (RECONNECT, 0), id, &[]),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request and its number; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<(u32, Self)> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let id = number(header);
        let request = match header[0] {
            CONNECT => {
                let protocol = match header[1] {
                    6 => Protocol::Tcp,
                    17 => Protocol::Udp,
                    _ => return None,
                };
                let port = u16::from_be_bytes([header[2], header[3]]);
                let address = Ipv4Addr::new(header[8], header[9], header[10], header[11]);
                Self::Connect { protocol, to: SocketAddrV4::new(address, port) }
            }
            QUESTION => Self::Question(rest),
            RECONNECT => Self::Reconnect,
            _ => return None,
        };
        Some((id, request))
    }
}

impl Reply<'_> {
    /// Writes the answer to request `id` into `buffer`; its length. A DNS message that is too long is
    /// cut.
    pub fn encode(&self, id: u32, buffer: &mut [u8; MESSAGE_MAX]) -> usize {
        match self {
            Self::Connected => encode(buffer, (CONNECTED, 0), id, &[]),
            Self::Failed(why) => encode(buffer, (FAILED, *why as u8), id, &[]),
            Self::Resolved(message) => encode(buffer, (RESOLVED, 0), id, message),
        }
    }
}

impl<'a> Reply<'a> {
    /// Reads an answer and the number of its request; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<(u32, Self)> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let reply = match (header[0], header[1]) {
            (CONNECTED, _) => Self::Connected,
            (FAILED, 1) => Self::Failed(Failure::Denied),
            (FAILED, 2) => Self::Failed(Failure::Refused),
            (FAILED, 3) => Self::Failed(Failure::TimedOut),
            (FAILED, 4) => Self::Failed(Failure::Unreachable),
            (FAILED, 5) => Self::Failed(Failure::Busy),
            (RESOLVED, _) => Self::Resolved(rest),
            _ => return None,
        };
        Some((number(header), reply))
    }
}

fn encode(buffer: &mut [u8; MESSAGE_MAX], kind: (u8, u8), id: u32, rest: &[u8]) -> usize {
    let rest = &rest[..rest.len().min(MESSAGE_MAX - HEADER)];
    buffer[..HEADER].fill(0);
    (buffer[0], buffer[1]) = kind;
    buffer[4..8].copy_from_slice(&id.to_be_bytes());
    buffer[HEADER..HEADER + rest.len()].copy_from_slice(rest);
    HEADER + rest.len()
}

fn number(header: &[u8]) -> u32 {
    u32::from_be_bytes([header[4], header[5], header[6], header[7]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 443);
        let requests = [
            Request::Connect { protocol: Protocol::Tcp, to },
            Request::Connect { protocol: Protocol::Udp, to },
            Request::Question(b"question"),
            Request::Reconnect,
        ];
        let mut buffer = [0xff; MESSAGE_MAX];
        for request in requests {
            let length = request.encode(0x1234_5678, &mut buffer);
            assert_eq!(Request::decode(&buffer[..length]), Some((0x1234_5678, request)));
        }
        use Failure::{Busy, Denied, Refused, TimedOut, Unreachable};
        let failed = [Denied, Refused, TimedOut, Unreachable, Busy].map(Reply::Failed);
        for reply in failed.into_iter().chain([Reply::Connected, Reply::Resolved(b"answer")]) {
            let length = reply.encode(7, &mut buffer);
            assert_eq!(Reply::decode(&buffer[..length]), Some((7, reply)));
        }
        let long = [1; 4096];
        assert_eq!(Request::Question(&long).encode(1, &mut buffer), MESSAGE_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((id, request)) = Request::decode(&bytes) {
                let mut buffer = [0; MESSAGE_MAX];
                let length = request.encode(id, &mut buffer);
                prop_assert_eq!(Request::decode(&buffer[..length]), Some((id, request)));
            }
            let _ = Reply::decode(&bytes);
        }
    }
}
