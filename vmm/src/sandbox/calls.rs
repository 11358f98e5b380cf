//! The system calls that a monitor makes, each with its reason.

use super::{Needs, SetUp, setup};

/// A system call and why it is made.
pub(super) type Allowed = (libc::c_long, &'static str);

/// The calls of a monitor with these needs, as far as their arguments do not matter.
pub(super) fn needed(needs: &Needs) -> impl Iterator<Item = Allowed> {
    let sometimes = [
        (needs.disk, DISK),
        (needs.uring, URING),
        (needs.datagrams, DATAGRAMS),
        (needs.wire, WIRE),
        (needs.vhost_user, VHOST_USER),
        (needs.broker, BROKER),
        (needs.control, CONTROL),
        (needs.swap, SWAP),
        (needs.set_up == SetUp::Plain, setup::PLAIN),
        (needs.set_up == SetUp::Any, setup::ANY),
    ];
    let sometimes =
        sometimes.into_iter().filter(|(needed, _)| *needed).flat_map(|(_, calls)| calls);
    let pager = denali_pager::SYSTEM_CALLS.iter().filter(|_| needs.swap);
    // Calls of which arguments matter have rules of their own.
    let pager = pager.filter(|(call, _)| !RULED.contains(call));
    ALWAYS.iter().chain(sometimes).chain(pager).copied()
}

/// Calls that are allowed with certain arguments only.
pub(super) const RULED: [libc::c_long; 11] = [
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rt_sigaction,
    libc::SYS_tgkill,
    libc::SYS_sched_setattr,
    libc::SYS_fcntl,
    libc::SYS_setsockopt,
    libc::SYS_ioctl,
    libc::SYS_prctl,
];

/// Calls that every guest's monitor makes.
#[rustfmt::skip]
const ALWAYS: &[Allowed] = &[
    (libc::SYS_read, "signals"),
    (libc::SYS_pread64, "the image's symbols, for a crash report"),
    (libc::SYS_recvfrom, "host sockets of the user network"),
    (libc::SYS_write, "console, messages, crash report"),
    (libc::SYS_writev, "messages of the standard library"),
    (libc::SYS_sendto, "host sockets of the user network"),
    (libc::SYS_accept4, "connections to published ports"),
    (libc::SYS_shutdown, "half-closed connections"),
    (libc::SYS_close, "closed connections"),
    (libc::SYS_epoll_wait, "events of the user network"),
    (libc::SYS_epoll_pwait2, "the idle guest's sleep"),
    (libc::SYS_epoll_ctl, "new connections, a paused listener"),
    (libc::SYS_poll, "a console that is slow"),
    (libc::SYS_setitimer, "the quantum"),
    (libc::SYS_timerfd_settime, "the end of a long sleep"),
    (libc::SYS_rt_sigreturn, "back from the handlers of quantum and arrival"),
    (libc::SYS_epoll_create1, "the watcher's arrivals"),
    (libc::SYS_clock_nanosleep, "the watcher's pause"),
    (libc::SYS_rt_sigprocmask, "the watcher leaves signals to the vCPU's thread"),
    (libc::SYS_rseq, "the watcher's start"),
    (libc::SYS_set_robust_list, "the watcher's start"),
    (libc::SYS_sched_getaffinity, "the watcher's start"),
    (libc::SYS_sigaltstack, "the watcher's start"),
    (libc::SYS_gettid, "the watcher's start"),
    (libc::SYS_getpid, "the watcher's start"),
    (libc::SYS_restart_syscall, "calls that a stop and continue interrupted"),
    (libc::SYS_clock_gettime, "time, where the host has no vDSO clock"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_munmap, "the allocator"),
    (libc::SYS_mremap, "the allocator"),
    (libc::SYS_madvise, "the allocator"),
    (libc::SYS_futex, "locks of the standard library"),
    (libc::SYS_getrandom, "hash seeds of the standard library"),
    (libc::SYS_exit_group, "the end"),
    (libc::SYS_exit, "the watcher's end"),
];

/// A file as a disk, one request after the other.
#[rustfmt::skip]
const DISK: &[Allowed] = &[
    (libc::SYS_preadv, "the guest reads its disk"),
    (libc::SYS_pwritev, "the guest writes its disk"),
    (libc::SYS_fdatasync, "the guest flushes its disk"),
    (libc::SYS_fallocate, "the guest discards or zeroes a part of its disk"),
];

/// A file as a disk, by io_uring: the ring itself allows reading, writing and syncing one file.
#[rustfmt::skip]
const URING: &[Allowed] = &[
    (libc::SYS_io_uring_enter, "requests of the guest to its disk"),
];

/// A published port for datagrams.
#[rustfmt::skip]
const DATAGRAMS: &[Allowed] = &[
    (libc::SYS_recvmsg, "datagrams of whoever writes"),
    (libc::SYS_sendmsg, "answers, from the address that was written to"),
];

/// A tap or a seqpacket socket.
#[rustfmt::skip]
const WIRE: &[Allowed] = &[
    (libc::SYS_readv, "frames for the guest"),
    (libc::SYS_sendmsg, "frames of the guest"),
];

/// A vhost-user back end.
#[rustfmt::skip]
const VHOST_USER: &[Allowed] = &[
    (libc::SYS_sendmsg, "the back end is told of queues"),
    (libc::SYS_recvmsg, "the back end answers"),
    (libc::SYS_eventfd2, "doorbells of queues"),
];

/// A broker.
#[rustfmt::skip]
const BROKER: &[Allowed] = &[
    (libc::SYS_recvmsg, "the broker passes a connection"),
];

/// A control socket.
#[rustfmt::skip]
const CONTROL: &[Allowed] = &[
    (libc::SYS_recvmsg, "requests"),
    (libc::SYS_sendmsg, "answers"),
    (libc::SYS_pwrite64, "a snapshot"),
    (libc::SYS_ftruncate, "a snapshot"),
    (libc::SYS_fdatasync, "a snapshot"),
    (libc::SYS_lseek, "where the memory of a copy has pages of its own"),
];

/// A swap region.
#[rustfmt::skip]
const SWAP: &[Allowed] = &[
    (libc::SYS_io_uring_enter, "pages leave and come"),
    (libc::SYS_preadv, "pages come, without io_uring"),
    (libc::SYS_pwritev, "pages leave, without io_uring"),
    (libc::SYS_fdatasync, "a parked guest is on the disk"),
    (libc::SYS_flock, "others go on from a parked guest's region"),
    (libc::SYS_fallocate, "memory in a file goes back to the host"),
    (libc::SYS_lseek, "where memory in a file has pages"),
    (libc::SYS_mlock, "keys stay out of the host's swap"),
    (libc::SYS_munlock, "keys that are no longer used"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice_for_one_reason() {
        for list in [ALWAYS, DISK, URING, DATAGRAMS, WIRE, VHOST_USER, BROKER, CONTROL, SWAP] {
            let mut calls: Vec<_> = list.iter().map(|(call, _)| call).collect();
            calls.sort_unstable();
            assert!(calls.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
