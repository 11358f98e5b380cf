//! A game over UDP without any input or output: the server's side and the client's, and the world
//! that both know.
//!
//! A transport gives what arrives to a [`Server`] or a [`Client`] and sends what they give back; time
//! comes in as a number. So the same code runs in guests, in the clients that play them, and in tests
//! that lose, repeat and reorder datagrams.
//!
//! The server is authoritative: clients say what they want to do, a fixed tick moves the world, and every
//! client gets a snapshot of every tick, as the difference from the last one it said it has.
#![no_std]

extern crate alloc;

mod bot;
mod bytes;
mod client;
mod delta;
mod histogram;
mod pace;
mod protocol;
mod random;
mod server;
mod siphash;
mod state;
mod status;
mod world;

pub use bot::Bot;
pub use client::{Client, Counters as ClientCounters, Latency, Received, Stage};
pub use histogram::Histogram;
pub use pace::Pace;
pub use protocol::{
    Answer, Closing, Command, DATAGRAM_MAX, HANDSHAKE_SIZE, Input, Refusal, Request, STATUS_SIZE,
    SnapshotPart, Welcome,
};
pub use server::{CLIENTS_MAX, Outbox, Peer, Server, Settings};
pub use state::{ENTITIES, Entity, Kind, State};
pub use status::Status;
pub use world::{ARENA, World};
