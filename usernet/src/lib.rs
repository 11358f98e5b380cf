//! A small user-mode TCP/IP gateway: host sockets on one side, Ethernet frames on the other.
//!
//! Listening sockets of the host are published as ports of one guest: each connection accepted on the
//! host becomes a TCP connection from the gateway to the guest, and bytes, ends and resets are carried
//! both ways. The guest can reach nothing through it: no packet leaves the machine.
//!
//! One thread drives a [`Gateway`]: `begin`, `transmit` for the guest's frames, `poll`, then
//! `next_frame` and `consume` for frames towards the guest. After construction it opens no file and
//! creates no socket but by accepting.

mod classify;
mod config;
mod connection;
mod counters;
mod frames;
mod gateway;
mod sys;
mod table;

pub use config::Config;
pub use counters::Counters;
pub use gateway::Gateway;
