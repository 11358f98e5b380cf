//! The sandbox of a back end: it opens nothing by name any more, and makes only the system calls listed
//! here, each with its reason. Anything else ends the process.
//!
//! The process that listens has more calls than the one that serves a front end, which it starts: the
//! latter's filter is added to the former's.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// A system call, a condition on its arguments, and why it is made.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    call: libc::c_long,
    condition: Condition,
    /// Why it is made.
    pub reason: &'static str,
}

/// What the arguments must be.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Any,
    /// The argument with this index has this value.
    Equal(u8, u64),
    /// The argument with this index has these bits set.
    Set(u8, u64),
    /// The argument with this index has these bits clear.
    Clear(u8, u64),
}

/// A call with any arguments.
#[must_use]
pub const fn any(call: libc::c_long, reason: &'static str) -> Allowed {
    Allowed { call, condition: Condition::Any, reason }
}

/// A call whose argument with this index has this value.
#[must_use]
pub const fn equal(call: libc::c_long, index: u8, value: u64, reason: &'static str) -> Allowed {
    Allowed { call, condition: Condition::Equal(index, value), reason }
}

const fn set(call: libc::c_long, index: u8, bits: u64, reason: &'static str) -> Allowed {
    Allowed { call, condition: Condition::Set(index, bits), reason }
}

const fn clear(call: libc::c_long, index: u8, bits: u64, reason: &'static str) -> Allowed {
    Allowed { call, condition: Condition::Clear(index, bits), reason }
}

const NO_PATH: u64 = libc::AT_EMPTY_PATH as u64;
const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

/// What serving a front end takes, whatever the device.
#[rustfmt::skip]
const SERVING: &[Allowed] = &[
    any(libc::SYS_recvmsg, "requests of the front end, with descriptors"),
    any(libc::SYS_recvfrom, "requests of the front end"),
    any(libc::SYS_sendmsg, "replies"),
    any(libc::SYS_write, "interrupts, messages"),
    any(libc::SYS_writev, "messages of the standard library"),
    any(libc::SYS_read, "the listener's signals"),
    any(libc::SYS_close, "descriptors of the front end"),
    any(libc::SYS_epoll_wait, "rings, requests, the device"),
    any(libc::SYS_epoll_ctl, "rings that come and go"),
    any(libc::SYS_poll, "requests that must be finished before a ring stops"),
    clear(libc::SYS_mmap, 2, EXECUTABLE, "the front end's memory, the allocator"),
    any(libc::SYS_munmap, "memory tables that were replaced, the allocator"),
    any(libc::SYS_mremap, "the allocator"),
    any(libc::SYS_madvise, "the allocator"),
    clear(libc::SYS_mprotect, 2, EXECUTABLE, "the allocator"),
    any(libc::SYS_brk, "the allocator"),
    any(libc::SYS_fstat, "the size of the front end's memory"),
    set(libc::SYS_newfstatat, 3, NO_PATH, "the same, with other C libraries"),
    set(libc::SYS_statx, 2, NO_PATH, "the same, by the standard library"),
    any(libc::SYS_lseek, "the same, by the memory mapper"),
    any(libc::SYS_memfd_create, "the account of requests in flight"),
    any(libc::SYS_ftruncate, "its size"),
    equal(libc::SYS_fcntl, 1, libc::F_GETFD as u64, "checks in debug builds before closing"),
    any(libc::SYS_clock_gettime, "time, where the host has no vDSO clock"),
    any(libc::SYS_futex, "locks of the standard library"),
    any(libc::SYS_getrandom, "hash seeds of the standard library"),
    any(libc::SYS_rt_sigreturn, "signals"),
    any(libc::SYS_restart_syscall, "calls that a stop and continue interrupted"),
    any(libc::SYS_sigaltstack, "the end"),
    any(libc::SYS_exit_group, "the end"),
    any(libc::SYS_exit, "the end"),
];

/// What listening, and preparing a process for a front end, takes beyond that.
#[rustfmt::skip]
const LISTENING: &[Allowed] = &[
    any(libc::SYS_accept4, "front ends"),
    any(libc::SYS_clone, "a process for each front end"),
    any(libc::SYS_set_robust_list, "its thread"),
    any(libc::SYS_rseq, "its thread"),
    any(libc::SYS_gettid, "its thread"),
    any(libc::SYS_getpid, "its thread"),
    any(libc::SYS_getppid, "whether the listener still lives"),
    any(libc::SYS_rt_sigprocmask, "its signals"),
    any(libc::SYS_rt_sigaction, "its signals"),
    any(libc::SYS_prctl, "its end with the listener's, its sandbox"),
    any(libc::SYS_seccomp, "its sandbox"),
    any(libc::SYS_prlimit64, "no core dumps"),
    any(libc::SYS_epoll_create1, "its loop, and the device's events"),
    any(libc::SYS_eventfd2, "the device's events"),
    equal(libc::SYS_fcntl, 1, libc::F_DUPFD_CLOEXEC as u64, "descriptors for its own use"),
    any(libc::SYS_wait4, "how it ended"),
    any(libc::SYS_kill, "ending it"),
    any(libc::SYS_unlink, "the socket's path, at the end"),
];

/// Which process of a back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It listens and starts others.
    Listener,
    /// It serves one front end.
    Server,
}

/// What a device needs of the system.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Calls while it is used.
    pub used: Vec<Allowed>,
    /// Calls when it is made, for each front end anew.
    pub made: Vec<Allowed>,
}

/// Gives up core dumps, new privileges and all system calls but those needed.
///
/// # Errors
/// When the kernel does not support it.
pub fn enter(role: Role, needs: &Needs) -> io::Result<()> {
    forbid_core_dumps()?;
    let program = compile(role, needs).map_err(io::Error::other)?;
    // This sets PR_SET_NO_NEW_PRIVS first.
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// A program that `core_pattern` names gets what dies whatever the limit is, but for a limit of one byte.
fn forbid_core_dumps() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = most.min(1);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)
}

fn compile(role: Role, needs: &Needs) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    let more: &[&[Allowed]] = match role {
        Role::Listener => &[LISTENING, &needs.made],
        Role::Server => &[],
    };
    for allowed in [SERVING, &needs.used].iter().chain(more).copied().flatten() {
        let list = rules.entry(allowed.call).or_default();
        match allowed.rule()? {
            Some(rule) => list.push(rule),
            None => unconditional.push(allowed.call),
        }
    }
    // No rule at all is what "any arguments" looks like.
    for call in unconditional {
        rules.insert(call, Vec::new());
    }
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

impl Allowed {
    fn rule(&self) -> Result<Option<SeccompRule>, BackendError> {
        let (index, operator, value) = match self.condition {
            Condition::Any => return Ok(None),
            Condition::Equal(index, value) => (index, SeccompCmpOp::Eq, value),
            Condition::Set(index, bits) => (index, SeccompCmpOp::MaskedEq(bits), bits),
            Condition::Clear(index, bits) => (index, SeccompCmpOp::MaskedEq(bits), 0),
        };
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition]).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_for_both_roles() {
        for role in [Role::Listener, Role::Server] {
            assert!(compile(role, &Needs::default()).is_ok());
        }
    }

    #[test]
    fn nothing_that_opens_or_executes_is_allowed() {
        let forbidden = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_ptrace,
        ];
        for allowed in SERVING.iter().chain(LISTENING) {
            assert!(!forbidden.contains(&allowed.call), "{}", allowed.reason);
            assert!(!allowed.reason.is_empty());
        }
    }
}
