//! A small user-mode TCP/IP gateway: host sockets on one side, Ethernet frames on the other.
//!
//! Listening sockets of the host are published as ports of one guest: each connection accepted on the
//! host becomes a TCP connection from the gateway to the guest, and bytes, ends and resets are carried
//! both ways. Sockets for datagrams are published too ([`Gateway::publish_datagrams`]): each peer that
//! writes is a port of the gateway for the guest, and answers go back to it. What the guest itself may reach is not the gateway's to decide: it asks an [`Opener`], and
//! without one the guest reaches nobody.
//!
//! One thread drives a [`Gateway`]: `begin`, `transmit` for the guest's frames, `poll`, then
//! `next_frame` and `consume` for frames towards the guest. After construction it opens no file and
//! creates no socket but by accepting.

mod classify;
mod config;
mod connection;
mod counters;
mod datagram;
mod flow;
mod frames;
mod gateway;
mod opener;
mod outbound;
mod packets;
mod peers;
mod published;
mod sys;
mod table;
mod udp;

pub use config::Config;
pub use counters::Counters;
pub use gateway::Gateway;
pub use opener::{Failure, Opener, Outcome, Protocol, Untaken};
