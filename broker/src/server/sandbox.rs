//! The sandbox of the broker: sockets can be made and connected, and nothing else; no file, no
//! process, no privilege.

use crate::spec::{Service, Spec};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// A system call and why it is made.
type Allowed = (libc::c_long, &'static str);

/// Calls that every broker makes.
#[rustfmt::skip]
const ALWAYS: &[Allowed] = &[
    (libc::SYS_epoll_wait, "requests, connections, answers"),
    (libc::SYS_epoll_ctl, "connections that are waited for"),
    (libc::SYS_recvfrom, "requests, answers of name servers"),
    (libc::SYS_sendmsg, "answers with descriptors, questions to name servers"),
    (libc::SYS_connect, "connections"),
    (libc::SYS_write, "it says that it is ready"),
    (libc::SYS_close, "connections that were passed on or failed"),
    (libc::SYS_getrandom, "identifications of questions, hash seeds"),
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

/// Capability to connect to sockets that belong to others, which a user who has it may have used for
/// the first connection.
const CAP_DAC_OVERRIDE: u32 = 1;

/// Gives up core dumps, privileges, and all system calls but those that serving `spec` needs.
///
/// # Errors
/// When the host refuses; then nothing may be served.
pub fn enter(spec: &Spec) -> io::Result<()> {
    forbid_core_dumps()?;
    let unix =
        spec.channels.iter().any(|channel| matches!(channel.service, Service::Socket { .. }));
    drop_capabilities(if unix { 1 << CAP_DAC_OVERRIDE } else { 0 })?;
    let program = compile(unix).map_err(io::Error::other)?;
    // This sets PR_SET_NO_NEW_PRIVS first.
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// A program that `core_pattern` names gets what dies whatever the limit is, but for a limit of one byte.
fn forbid_core_dumps() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = most.min(1);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)
}

/// Keeps those capabilities of `kept` that this process has, and no other.
fn drop_capabilities(kept: u32) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the header and the two sets are what this version of the call reads and writes.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    Errno::result(got)?;
    let left = sets[0].permitted & kept;
    sets = [Sets::default(); 2];
    (sets[0].effective, sets[0].permitted) = (left, left);
    // SAFETY: as above; the sets are only read.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
    Errno::result(set)?;
    Ok(())
}

fn compile(unix: bool) -> Result<BpfProgram, seccompiler::BackendError> {
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
    // Debug builds of the standard library check that a descriptor is open before they close it.
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![equal(1, libc::F_GETFD)?])?]);
    rules.insert(libc::SYS_socket, sockets(unix)?);
    // Whether a connection succeeded.
    let error = vec![equal(1, libc::SOL_SOCKET)?, equal(2, libc::SO_ERROR)?];
    rules.insert(libc::SYS_getsockopt, vec![SeccompRule::new(error)?]);
    rules.insert(libc::SYS_setsockopt, options()?);
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

/// TCP and UDP over IPv4 for guests, UDP over IPv6 for name servers, Unix streams for back ends.
fn sockets(unix: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let mut kinds = vec![
        (libc::AF_INET, libc::SOCK_STREAM),
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
    ];
    if unix {
        kinds.push((libc::AF_UNIX, libc::SOCK_STREAM));
    }
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let rule = |(family, kind): (i32, i32)| {
        SeccompRule::new(vec![equal(0, family)?, equal(1, kind | flags)?, equal(2, 0)?])
    };
    kinds.into_iter().map(rule).collect()
}

/// Connections of guests: no delay, and probes of silent peers.
fn options() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    ]
    .into_iter()
    .map(|(level, name)| SeccompRule::new(vec![equal(1, level)?, equal(2, name)?]))
    .collect()
}

fn equal(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    let value = u64::from(value as u32);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(
    argument: u8,
    mask: u64,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_with_and_without_unix_sockets() {
        assert!(compile(true).is_ok() && compile(false).is_ok());
    }
}
