//! The control protocol between a monitor and whoever looks after it: a keeper, or a person with the
//! command line.
//!
//! It is spoken over Unix sockets of type SOCK_SEQPACKET. Each message is one JSON object of at most
//! [`MESSAGE_MAX`] bytes; some carry descriptors. The monitor listens, or has a socket that its launcher
//! connected; it answers each [`Request`] with one [`Told`], in order, and tells its keeper unasked when it
//! parks its guest by itself, and how the guest ended. The keeper is whoever is at the other end of the
//! socket that the launcher connected, or, when that has gone, the first who asks to [adopt](Request::Adopt)
//! the guest. Both sides take the other's messages as untrusted.

mod message;
mod wire;

pub use message::{Life, Parked, Request, Status, Told};
pub use wire::{DESCRIPTORS_MAX, MESSAGE_MAX, Received, Tell, connect, pair, receive, send};
