//! The sandbox of the switch: sockets that it is given and accepts, and nothing else; no file, no process, no privilege.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// A system call and why it is made.
type Allowed = (libc::c_long, &'static str);

#[rustfmt::skip]
const ALWAYS: &[Allowed] = &[
    (libc::SYS_epoll_wait, "everything that happens"),
    (libc::SYS_epoll_ctl, "guests that come"),
    (libc::SYS_epoll_create1, "gateways of guests with published ports"),
    (libc::SYS_recvmmsg, "frames of guests"),
    (libc::SYS_sendmmsg, "frames to guests"),
    (libc::SYS_recvmsg, "requests, datagrams"),
    (libc::SYS_sendmsg, "answers, datagrams"),
    (libc::SYS_recvfrom, "bytes of connections"),
    (libc::SYS_sendto, "bytes of connections"),
    (libc::SYS_read, "bytes of connections"),
    (libc::SYS_write, "bytes of connections; it says that it is ready"),
    (libc::SYS_readv, "packets of the uplink"),
    (libc::SYS_writev, "packets to the uplink"),
    (libc::SYS_accept4, "supervisors, connections of published ports"),
    (libc::SYS_shutdown, "ends of connections"),
    (libc::SYS_getsockname, "what sockets are that were passed"),
    (libc::SYS_close, "guests and connections that go"),
    (libc::SYS_geteuid, "whether a supervisor is this user's"),
    (libc::SYS_getrandom, "hash seeds"),
    (libc::SYS_clock_gettime, "time, where the host has no vDSO clock"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_munmap, "the allocator"),
    (libc::SYS_mremap, "the allocator"),
    (libc::SYS_madvise, "the allocator"),
    (libc::SYS_futex, "locks of the standard library"),
    (libc::SYS_restart_syscall, "calls that a stop and continue interrupted"),
    (libc::SYS_exit_group, "the end"),
    (libc::SYS_exit, "the end"),
];

/// Options of sockets that are asked for.
const ASKED: [(libc::c_int, libc::c_int); 4] = [
    (libc::SOL_SOCKET, libc::SO_TYPE),
    (libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
    (libc::SOL_SOCKET, libc::SO_PEERCRED),
    (libc::SOL_SOCKET, libc::SO_ERROR),
];

/// Options of published sockets and their connections that are set.
const SET: [(libc::c_int, libc::c_int); 9] = [
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// Gives up core dumps, capabilities, new privileges, and all system calls but those that a switch needs; takes as many
/// descriptors as the host allows.
///
/// # Errors
/// When the host refuses; then nothing may be served.
pub fn enter() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    // A program that `core_pattern` names gets what dies whatever the limit is, but for a limit of one byte.
    let limit = most.min(1);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    drop_capabilities()?;
    let program = compile().map_err(io::Error::other)?;
    // This sets PR_SET_NO_NEW_PRIVS first.
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header: [u32; 2] = [VERSION_3, 0];
    let none = [[0_u32; 3]; 2];
    // SAFETY: a version, a process (this one), and two sets of capabilities, as this version of the call reads them.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), none.as_ptr()) };
    Errno::result(set)?;
    Ok(())
}

fn compile() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().map(|(call, _)| (*call, Vec::new())).collect();
    // The allocator: private memory that cannot be executed.
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![
            masked(2, libc::PROT_EXEC as u64, 0)?,
            masked(3, libc::MAP_ANONYMOUS as u64, libc::MAP_ANONYMOUS as u64)?,
        ])?],
    );
    let commands = [libc::F_GETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    let command = |command| SeccompRule::new(vec![equal(1, command)?]);
    rules.insert(libc::SYS_fcntl, commands.into_iter().map(command).collect::<Result<_, _>>()?);
    let not_to_block = SeccompRule::new(vec![equal(1, libc::FIONBIO as i32)?])?;
    rules.insert(libc::SYS_ioctl, vec![not_to_block]);
    rules.insert(libc::SYS_getsockopt, options(&ASKED)?);
    rules.insert(libc::SYS_setsockopt, options(&SET)?);
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

fn options(which: &[(libc::c_int, libc::c_int)]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule =
        |&(level, name): &(i32, i32)| SeccompRule::new(vec![equal(1, level)?, equal(2, name)?]);
    which.iter().map(rule).collect()
}

fn equal(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    let value = u64::from(value as u32);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles() {
        assert!(compile().is_ok());
    }
}
