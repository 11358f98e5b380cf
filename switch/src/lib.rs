//! The switch: the network of all guests of a host, in a process of its own, so that packets flow while the
//! supervisor starts anew.
//!
//! It opens nothing itself: whoever starts it ([`client::start`]) passes it the socket at which it listens for a
//! supervisor, and the TUN interface that leads to the host; the supervisor passes it the guests' sockets and those of
//! published ports ([`protocol`]).
//!
//! Without the feature `program` this crate has only what a supervisor needs.

#[cfg(feature = "program")]
mod checksum;
pub mod client;
#[cfg(feature = "program")]
mod fabric;
#[cfg(feature = "program")]
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "program")]
mod header;
pub mod message;
mod options;
#[cfg(feature = "program")]
mod ports;
pub mod protocol;
#[cfg(feature = "program")]
mod rate;
#[cfg(feature = "program")]
mod reply;
#[cfg(feature = "program")]
mod server;
pub mod tun;
#[cfg(feature = "program")]
mod waiting;
#[cfg(feature = "program")]
mod wake;

pub use client::{Client, start};
pub use options::{Options, Policy, Spec, Waiting};
#[cfg(feature = "program")]
pub use server::{Server, sandbox};
