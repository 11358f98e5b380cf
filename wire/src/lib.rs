//! Wires for network cards: a tap interface of the host, and a connected seqpacket socket.
//!
//! The launcher opens them ([`Tap::open`], [`SeqpacketSocket::connect`]); the monitor makes back ends
//! of the descriptors ([`Tap::new`], [`SeqpacketSocket::new`]) before its sandbox is up. Afterwards
//! they make these system calls and no others:
//!
//! | system call | by | why |
//! |---|---|---|
//! | `readv` | both | frames for the guest, straight into its buffers |
//! | `writev` | tap | frames of the guest, straight out of its buffers |
//! | `sendmsg` (`MSG_DONTWAIT`, `MSG_NOSIGNAL`) | socket | the same, without a signal when the peer is gone |
//! | `ioctl(TUNSETOFFLOAD)`, 0x4004_54d0 | tap | what the driver takes, once for each of its starts |
//! | `epoll_ctl` | both | frames wait, and the guest has no buffers for them |
//!
//! [`TUNSETOFFLOAD`] is the number of that ioctl, for the sandbox's list.

mod error;
mod interest;
mod seqpacket;
mod sys;
mod tap;

pub use error::OpenError;
pub use seqpacket::SeqpacketSocket;
pub use tap::{TUNSETOFFLOAD, Tap};
