//! The broker: a process beside a monitor, outside its sandbox, that opens connections for it.
//!
//! A monitor can open nothing. What its guest may reach outside is decided and opened by this
//! program, which holds the rules: a monitor that was taken over gets what they allow, and no more.
//!
//! The launcher describes it in a [`Spec`] and gives the monitor the other ends of its channels, one
//! for each device that needs any. The monitor asks through a [`Client`], and gets connected sockets
//! passed. When all channels are closed at the monitor's end, the broker ends.
//!
//! Without the feature `program` this crate has only what launcher and monitor need.

pub mod client;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod message;
pub mod resolver;
pub mod rules;
#[cfg(feature = "program")]
mod server;
mod spec;

pub use client::{Answer, Client, Received, Unsent};
pub use message::Failure;
pub use rules::{Policy, Protocol, Rule, Target};
#[cfg(feature = "program")]
pub use server::{Server, sandbox};
pub use spec::{Channel, Service, Spec};
