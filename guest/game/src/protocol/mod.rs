//! Datagrams: what clients ask and servers answer, byte by byte. Numbers are little-endian.
//!
//! Every datagram begins with `D`, `G`, the version and its kind. A server answers who has not shown that
//! datagrams reach it with no more bytes than came: requests before that are filled up with zeros to
//! [`HANDSHAKE_SIZE`] or [`STATUS_SIZE`] bytes.
//!
//! | kind | from | fields |
//! |---|---|---|
//! | 1 hello | client | nonce 8, zeros |
//! | 2 join | client | nonce 8, cookie 8, zeros |
//! | 3 input | client | token 8, tick of the last snapshot + 1 or 0: 4, last sequence number 4, commands |
//! | 4 leave | client | token 8 |
//! | 5 status | client | nonce 8, zeros |
//! | 129 challenge | server | nonce 8, cookie 8 |
//! | 130 welcome | server | nonce 8, token 8, client 1, ticks per second 1 |
//! | 131 refused | server | nonce 8, reason 1 |
//! | 132 snapshot | server | half the nonce 4, tick 4, base 1, part 1, parts 1, sequence number 4, digest 4, entries |
//! | 133 closed | server | nonce 8, reason 1 |
//! | 134 status | server | nonce 8, see [`Status`] |
//!
//! A command is direction 2 (east, south), facing 1, fire 1; the last one has the sequence number
//! given, those before it the numbers before. The base of a snapshot is how many ticks before the
//! state was that it differs from, 0 for the empty one.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use crate::bytes::{Reader, Writer};
use crate::status::Status;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most bytes of a datagram: with headers it fits into any packet that the Internet carries whole.
pub const DATAGRAM_MAX: usize = 1200;
/// Bytes of a request of the handshake.
pub const HANDSHAKE_SIZE: usize = 64;
/// Bytes of a request for the status.
pub const STATUS_SIZE: usize = DATAGRAM_MAX;
/// Bytes of a snapshot before its entries.
pub(crate) const SNAPSHOT_HEADER: usize = 4 + 4 + 4 + 3 + 4 + 4;
/// Most commands in one datagram: the last one, and earlier ones in case they were lost.
pub(crate) const COMMANDS_MAX: usize = 8;
/// Most parts of a snapshot.
pub(crate) const PARTS_MAX: u8 = 8;

const VERSION: u8 = 1;
const START: [u8; 3] = [b'D', b'G', VERSION];

/// What a player wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Where to go, to the east: -127 to 127 is full speed west to full speed east.
    pub east: i8,
    /// Where to go, to the south, likewise.
    pub south: i8,
    /// Where to look.
    pub facing: u8,
    /// Whether to shoot.
    pub fire: bool,
}

/// What a client sends while it plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What the server gave this client to be known by.
    pub token: u64,
    /// Tick of the last snapshot that the client has, if it has one.
    pub has: Option<u32>,
    /// Sequence number of the last command; they count from 1.
    pub sequence: u32,
    /// The last commands, at most 8, the oldest first.
    pub commands: Vec<Command>,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for a cookie.
    Hello {
        /// A number that the client chose; answers carry it.
        nonce: u64,
    },
    /// Asks to play.
    Join {
        /// As in the hello.
        nonce: u64,
        /// What the server challenged with.
        cookie: u64,
    },
    /// Plays.
    Input(Input),
    /// Stops playing.
    Leave {
        /// As in inputs.
        token: u64,
    },
    /// Asks how the server is.
    Status {
        /// A number that the client chose; the answer carries it.
        nonce: u64,
    },
}

/// Why a client may not play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// As many play as can.
    Full = 1,
    /// The cookie is not what the server gave this client, or too old.
    BadCookie = 2,
}

/// Why the server ended a client's game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Closing {
    /// It was not heard of for long.
    Silent = 1,
    /// The server stops.
    Stopping = 2,
}

/// A client that may play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// What the client's datagrams carry from here on.
    pub token: u64,
    /// The client's number, which is its player's.
    pub client: u8,
    /// Ticks per second.
    pub tick_hz: u8,
}

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPart<'a> {
    /// The low half of the client's nonce.
    pub nonce: u32,
    /// When the world was so.
    pub tick: u32,
    /// How many ticks before the state was that this one differs from; 0 for the empty state.
    pub back: u8,
    /// Which part of the snapshot this is.
    pub part: u8,
    /// How many parts there are.
    pub parts: u8,
    /// Sequence number of the last command of this client that the world knows; 0 for none.
    pub sequence: u32,
    /// [`crate::State::digest`] of the state.
    pub digest: u32,
    /// The difference.
    pub entries: &'a [u8],
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Gives a cookie.
    Challenge {
        /// The request's.
        nonce: u64,
        /// What only who receives it knows.
        cookie: u64,
    },
    /// The client may play.
    Welcome {
        /// The request's.
        nonce: u64,
        /// How.
        welcome: Welcome,
    },
    /// The client may not play.
    Refused {
        /// The request's.
        nonce: u64,
        /// Why.
        why: Refusal,
    },
    /// The world.
    Snapshot(SnapshotPart<'a>),
    /// The client's game is over.
    Closed {
        /// The one that the client joined with.
        nonce: u64,
        /// Why.
        why: Closing,
    },
    /// How the server is.
    Status {
        /// The request's.
        nonce: u64,
        /// How.
        status: Box<Status>,
    },
}

fn begin(out: &mut Vec<u8>, kind: u8) {
    out.clear();
    out.extend_from_slice(&START);
    out.u8(kind);
}

/// The kind of a datagram and what follows.
fn open(datagram: &[u8]) -> Option<(u8, Reader<'_>)> {
    let rest = datagram.strip_prefix(&START).filter(|_| datagram.len() <= DATAGRAM_MAX)?;
    let mut reader = Reader::new(rest);
    Some((reader.u8()?, reader))
}

/// `Some` if the datagram has `size` bytes and zeros are all that is left.
fn filled(datagram: &[u8], rest: Reader<'_>, size: usize) -> Option<()> {
    (datagram.len() == size && rest.rest().iter().all(|&byte| byte == 0)).then_some(())
}
