//! Devices whose queues are worked on by another process: front ends of the vhost-user protocol for
//! disks and network cards.
//!
//! The launcher connects ([`connect`]), the monitor makes a [`FrontEnd`] of the connection before its
//! sandbox is up. Afterwards a front end makes these system calls and no others:
//!
//! | system call | why |
//! |---|---|
//! | `epoll_wait` on its own epoll descriptor, timeout 0 | what happened since the last look |
//! | `write` of 8 bytes to an eventfd | kicks |
//! | `sendmsg` (`MSG_DONTWAIT`, `MSG_NOSIGNAL`) | queues are set up or stopped; descriptors go along |
//! | `recvmsg` (`MSG_DONTWAIT`, `MSG_CMSG_CLOEXEC`) | replies |
//! | `eventfd2`, `epoll_ctl`, `close` | queues are set up, a connection ends |
//! | `poll` | a driver resets its device: the back end has one second to stop |
//!
//! Everything is done on the monitor's thread, step by step (negotiation and
//! connection are state machines); nothing waits for a back end but the start of a guest and a reset,
//! both for a bounded time. A back end is trusted with the guest's memory, and not with the monitor:
//! replies are bounded and must answer what was asked; the eventfd by which it calls is never
//! read (the back end has it too, and could make a read wait) but watched for edges; and the
//! one by which it is kicked is fresh for each back end, and written only right after the guest ran, when the
//! quantum's timer would end a write that a back end made wait.
//!
//! When a back end goes, requests wait in the queue, and the next one goes on with those that
//! are out: from its own record in shared memory where both offer `INFLIGHT_SHMFD`, else as the front
//! end knows them from both rings (`track.rs`). A request that was done, but not returned, is done twice.
//!
//! The `vhost` crate gives the layout of messages. Its `Frontend` is not used, because it waits for
//! replies without limit.

mod channel;
mod connect;
mod connection;
mod error;
mod front_end;
mod handshake;
mod link;
mod memory;
mod message;
mod metrics;
mod poller;
mod profile;
mod reconnect;
mod ring;
mod session;
#[cfg(test)]
mod tests;
mod track;

pub use connect::{CONNECT_PATIENCE, connect};
pub use connection::HANDSHAKE_PATIENCE;
pub use error::{ConnectError, Failure};
pub use front_end::{FrontEnd, Parts};
pub use memory::MemoryRegion;
pub use profile::Profile;
pub use reconnect::{NoReconnect, Reconnect};
