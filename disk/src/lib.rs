//! Disks of guests: raw files and block devices of the host, alone or striped, read and written by
//! io_uring or by plain system calls.
//!
//! The launcher opens and locks the files ([`open`]); the monitor makes a [`Disk`] of the descriptors
//! before its sandbox is up, on the thread that will use it. io_uring does what it is asked past a seccomp
//! filter, so its ring is restricted before it is enabled: reads, writes, `fdatasync` and `fallocate`
//! on the registered files, and nothing else, for good.
//!
//! Afterwards a disk makes these system calls and no others ([`SYSTEM_CALLS`]):
//!
//! | system call | with | why |
//! |---|---|---|
//! | `io_uring_enter` | io_uring | begins requests, collects completions |
//! | `read` (an eventfd) | io_uring | a completion woke the monitor |
//! | `timerfd_settime` | io_uring | when many completions are to be collected together |
//! | `preadv`, `pwritev`, `fdatasync`, `fallocate` | plain calls | one request after the other |

mod align;
mod bounce;
mod disk;
mod engine;
mod error;
mod files;
mod open;
mod options;
mod piece;
mod plain;
mod ring;
mod stripe;
mod waker;

#[cfg(test)]
mod tests;

pub use disk::Disk;
pub use error::{OpenError, SetupError};
pub use open::{Access, lock, open};
pub use options::{DiskOptions, Issuer, Method};
pub use ring::BareRing;

/// What a disk calls once it is set up: the number, whether io_uring (true) or plain calls (false) need
/// it, and why. For the sandbox's list.
pub const SYSTEM_CALLS: &[(libc::c_long, bool, &str)] = &[
    (libc::SYS_io_uring_enter, true, "requests of block devices"),
    (libc::SYS_read, true, "completed requests of block devices"),
    (libc::SYS_timerfd_settime, true, "completed requests collected together"),
    (libc::SYS_preadv, false, "reads of block devices"),
    (libc::SYS_pwritev, false, "writes of block devices"),
    (libc::SYS_fdatasync, false, "flushes of block devices"),
    (libc::SYS_fallocate, false, "discarded and zeroed ranges of block devices"),
];
