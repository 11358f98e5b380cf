//! The system calls with which a monitor that is in its sandbox already sets up the guest that it is given.

use super::calls::Allowed;
use denali_disk::BareRing;
use denali_hypervisor::kvm::{MEMORY_IOCTL, RESTORE_IOCTLS};

/// For a plain guest, of which all was made that can be. They stay allowed while it runs, so each is one that is of no
/// use to who has taken over the monitor: what it acts on is closed by then, or it does nothing but what can be
/// done with the descriptors that are open anyway.
#[rustfmt::skip]
pub(super) const PLAIN: &[Allowed] = &[
    (libc::SYS_fstat, "how long the image is, what consoles are"),
    (libc::SYS_getsockname, "at which addresses datagrams come"),
    (libc::SYS_getpriority, "the share of the processor is relative to the keeper's"),
    (libc::SYS_lseek, "where a snapshot has pages; nobody goes by the place in a file"),
];

/// The same, as far as one argument decides: the call, which argument, and its value.
pub(super) const ARGUMENTS: &[(libc::c_long, u8, u64)] = &[
    // The guest's standard streams take the place of those that the monitor was started with.
    (libc::SYS_dup2, 1, 0),
    (libc::SYS_dup2, 1, 1),
    (libc::SYS_dup2, 1, 2),
    // A ring gets the files of the region, and takes nothing of that kind any more.
    (libc::SYS_io_uring_register, 1, BareRing::REGISTERS[0] as u64),
    (libc::SYS_io_uring_register, 1, BareRing::REGISTERS[1] as u64),
    // Which of its files can be written.
    (libc::SYS_fcntl, 1, libc::F_GETFL as u64),
];

/// The same of `ioctl`, and why.
#[rustfmt::skip]
pub(super) const IOCTLS: &[(u64, &str)] = &[
    (MEMORY_IOCTL, "memory of another size than was expected; the machine's descriptor is closed before the guest runs"),
    (RESTORE_IOCTLS[0], "the vCPU as it was saved"),
    (libc::FIONBIO, "published ports"),
];

/// Options of sockets that are set: of published ports.
pub(super) const SOCKET_OPTIONS: &[(libc::c_int, libc::c_int)] = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// For whichever guest, whatever the arguments are: what is made for its disks, its devices in other processes and
/// its own process, and what that process calls until it has a filter of its own. Until the next filter, which
/// comes before the guest's first instruction. No program is executed, nothing opened, and no socket made.
#[rustfmt::skip]
pub(super) const ANY: &[Allowed] = &[
    (libc::SYS_prctl, "the next filter; the guest's process"),
    (libc::SYS_seccomp, "the next filter; the guest's process"),
    (libc::SYS_prlimit64, "no core dumps"),
    (libc::SYS_getrlimit, "no core dumps of the guest's process"),
    (libc::SYS_setrlimit, "no core dumps of the guest's process"),
    (libc::SYS_dup2, "standard streams"),
    (libc::SYS_fcntl, "how files were opened; standard streams as a console"),
    (libc::SYS_fstat, "what files are"),
    (libc::SYS_newfstatat, "what files are"),
    (libc::SYS_statx, "how disks want to be read"),
    (libc::SYS_lseek, "how large disks are"),
    (libc::SYS_flock, "regions"),
    (libc::SYS_ioctl, "KVM, userfaultfd, disks, terminals, published ports"),
    (libc::SYS_setsockopt, "published ports"),
    (libc::SYS_recvmsg, "the guest comes; brokers and back ends"),
    (libc::SYS_sendmsg, "brokers and back ends"),
    (libc::SYS_io_uring_setup, "disks"),
    (libc::SYS_io_uring_register, "disks"),
    (libc::SYS_io_uring_enter, "the region"),
    (libc::SYS_preadv, "the region"),
    (libc::SYS_pwritev, "the region"),
    (libc::SYS_fdatasync, "the region"),
    (libc::SYS_eventfd2, "disks, queues of back ends"),
    (libc::SYS_timerfd_create, "disks"),
    (libc::SYS_memfd_create, "memory that others map"),
    (libc::SYS_ftruncate, "memory that others map"),
    (libc::SYS_fallocate, "memory that others map"),
    (libc::SYS_mmap, "the image, memory that others map, the guest's process"),
    (libc::SYS_mprotect, "the guest's process"),
    (libc::SYS_mlock, "keys"),
    (libc::SYS_munlock, "keys"),
    (libc::SYS_getsockname, "at which addresses datagrams come"),
    (libc::SYS_getsockname, "published ports"),
    (libc::SYS_getpriority, "the share of the processor"),
    (libc::SYS_sched_setattr, "the share of the processor"),
    (libc::SYS_clone, "the guest's process"),
    (libc::SYS_ptrace, "the guest's process"),
    (libc::SYS_wait4, "the guest's process"),
    (libc::SYS_kill, "a guest's process that cannot be traced"),
    (libc::SYS_clock_getres, "the clock of the guest's process"),
    (libc::SYS_getppid, "the guest's process"),
    (libc::SYS_personality, "the guest's process"),
    (libc::SYS_close_range, "the guest's process"),
    (libc::SYS_rt_sigaction, "signals of the monitor's and of the guest's process"),
    (libc::SYS_tgkill, "signals"),
    (libc::SYS_signalfd4, "signals"),
];
