//! The pager: brings pages of a guest back when it touches them, and takes those it does not.
//!
//! A guest that was swapped out goes on before its memory has come back. Its memory is registered with a
//! userfaultfd ([`Uffd`]): whoever touches a missing page (the guest, the monitor, the kernel on behalf of
//! either) waits until the pager's thread ([`Pager`]) has filled it, from the swap store, or from what the
//! image or a snapshot has there ([`Originals`]). When nobody has waited for a while, the rest is
//! brought in, memory is ordinary again, and the thread ends.
//!
//! A guest with a [`Limit`] keeps its pager: pages it does not use leave memory as others come. Pages in
//! memory, staged ones included, are never more than the limit, however fast the guest touches them, but
//! while input or output is under way in all of them. The pager takes besides: a buffer of up to 1 MiB, what the
//! store needs to write a batch of up to 64 pages, some 50 bytes for each page in memory, and 5 for each page of
//! the guest.
//!
//! A guest whose growth is limited keeps its pager too: it counts the pages that the guest has, and gives it none
//! beyond the limit, so that whoever executes it can hold it.
//!
//! The pager never touches the guest's memory itself, which would be to wait for itself. What it calls is
//! listed in [`SYSTEM_CALLS`] and [`IOCTLS`].

mod ahead;
mod backing;
mod counters;
mod failure;
mod mapping;
mod memory;
mod neighbours;
mod originals;
mod pager;
mod pages;
mod prefetched;
mod shared;
mod staging;
mod uffd;
mod worker;
mod wsclock;

pub use backing::Backing;
pub use counters::Counters;
pub use failure::{Failure, StartError};
pub use originals::Originals;
pub use pager::{Failed, Limit, Pager, Policy, Setup, Stopped};
pub use pages::HostPages;
pub use prefetched::Prefetched;
pub use uffd::Uffd;

/// What starting, running and stopping a pager calls, and why, besides what its store and its clock call.
/// For the sandbox's list. `ioctl` is called with [`IOCTLS`], `mmap` for private anonymous memory, `clone`
/// for a thread, `prctl` with `PR_SET_NAME`, `fcntl` with `F_GETFD`; the rest as for any thread of the
/// standard library. The C library must have one heap for all threads (`M_ARENA_MAX`): to give back others it
/// opens files.
#[rustfmt::skip]
pub const SYSTEM_CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_ioctl, "memory is registered, filled and moved"),
    (libc::SYS_read, "faults"),
    (libc::SYS_poll, "the pager's wait for faults"),
    (libc::SYS_madvise, "memory of pages that are written"),
    (libc::SYS_mincore, "which pages are in memory when a limit begins"),
    (libc::SYS_eventfd2, "the pager is told to stop"),
    (libc::SYS_write, "the pager is told to stop"),
    (libc::SYS_close, "the pager's end"),
    (libc::SYS_fcntl, "debug builds check that a descriptor is open before they close it"),
    (libc::SYS_clone, "the pager's start"),
    (libc::SYS_mmap, "the pager's start"),
    (libc::SYS_mprotect, "the pager's start"),
    (libc::SYS_munmap, "the pager's end"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_mremap, "the allocator"),
    (libc::SYS_rt_sigprocmask, "the pager leaves signals to the vCPU's thread"),
    (libc::SYS_rt_sigaction, "signals of the C library, at the first thread"),
    (libc::SYS_prctl, "the thread's name"),
    (libc::SYS_rseq, "the pager's start"),
    (libc::SYS_set_robust_list, "the pager's start"),
    (libc::SYS_sched_getaffinity, "the pager's start"),
    (libc::SYS_sigaltstack, "the pager's start"),
    (libc::SYS_gettid, "the pager's start"),
    (libc::SYS_sched_yield, "memory that is changing"),
    (libc::SYS_futex, "locks of the standard library, and the pager's end"),
    (libc::SYS_clock_gettime, "time, where the host has no vDSO clock"),
    (libc::SYS_restart_syscall, "calls that a stop and continue interrupted"),
    (libc::SYS_exit, "the pager's end"),
];

/// The requests of `ioctl` that a pager makes, and why. Making a [`Uffd`] takes others, before the sandbox.
pub const IOCTLS: &[(u64, &str)] = &[
    (uffd::abi::REGISTER, "who touches a missing page waits"),
    (uffd::abi::UNREGISTER, "nobody waits any more"),
    (uffd::abi::WAKE, "who waits for a page that is there goes on"),
    (uffd::abi::COPY, "pages come"),
    (uffd::abi::ZEROPAGE, "zeroes come"),
    (uffd::abi::MOVE, "pages are staged, and come back"),
];

#[cfg(test)]
mod tests;
