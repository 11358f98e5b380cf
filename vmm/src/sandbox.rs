//! The sandbox of the monitor: from here to its end it opens nothing, and makes only the system calls
//! listed here, each with its reason.

use crate::start::StartError;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// What the guest's back end needs beyond what every guest does.
pub(crate) struct Needs {
    /// KVM's ioctls.
    pub(crate) kvm: bool,
    /// Tracing this process.
    pub(crate) tracee: Option<u32>,
}

/// Gives up core dumps, new privileges and all system calls but those needed.
pub(crate) fn enter(needs: &Needs) -> Result<(), StartError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(|source| StartError::Host { what: "forbid core dumps", source })?;
    let program = compile(needs).map_err(|error| StartError::Sandbox(error.to_string()))?;
    // This sets PR_SET_NO_NEW_PRIVS first.
    seccompiler::apply_filter(&program).map_err(|error| StartError::Sandbox(error.to_string()))
}

/// A system call and why it is made.
type Allowed = (libc::c_long, &'static str);

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
    (libc::SYS_rt_sigreturn, "back from the quantum's handler"),
    (libc::SYS_restart_syscall, "calls that a stop and continue interrupted"),
    (libc::SYS_clock_gettime, "time, where the host has no vDSO clock"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_munmap, "the allocator"),
    (libc::SYS_mremap, "the allocator"),
    (libc::SYS_madvise, "the allocator"),
    (libc::SYS_futex, "locks of the standard library"),
    (libc::SYS_getrandom, "hash seeds of the standard library"),
    (libc::SYS_exit_group, "the end"),
    (libc::SYS_exit, "the end"),
];

fn compile(needs: &Needs) -> Result<BpfProgram, seccompiler::BackendError> {
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
    rules.insert(libc::SYS_fcntl, vec![rule(1, libc::F_GETFD as u64)?]);
    // Connections reset instead of closed.
    let option = [equal(1, libc::SOL_SOCKET as u64)?, equal(2, libc::SO_LINGER as u64)?];
    rules.insert(libc::SYS_setsockopt, vec![SeccompRule::new(option.to_vec())?]);
    if needs.kvm {
        rules.insert(libc::SYS_ioctl, kvm_ioctls()?);
    }
    if let Some(tracee) = needs.tracee {
        rules.insert(libc::SYS_ptrace, trace_requests(tracee)?);
        rules.insert(libc::SYS_wait4, vec![rule(0, u64::from(tracee))?]);
    }
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

/// Running the vCPU, and its way out of an exception.
fn kvm_ioctls() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const KVM_RUN: u64 = 0xae80;
    const KVM_GET_SREGS: u64 = 0x8138_ae83;
    const KVM_SET_SREGS: u64 = 0x4138_ae84;
    [KVM_RUN, KVM_GET_SREGS, KVM_SET_SREGS].into_iter().map(|request| rule(1, request)).collect()
}

/// One process, the guest: to continue and stop it, to read and set its registers, to know its signals.
fn trace_requests(tracee: u32) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [
        libc::PTRACE_CONT,
        libc::PTRACE_SINGLESTEP,
        libc::PTRACE_INTERRUPT,
        libc::PTRACE_GETREGS,
        libc::PTRACE_POKEUSER,
        libc::PTRACE_GETSIGINFO,
        libc::PTRACE_PEEKSIGINFO,
        libc::PTRACE_GETREGSET,
        libc::PTRACE_SETREGSET,
    ]
    .into_iter()
    .map(|request| {
        SeccompRule::new(vec![equal(0, u64::from(request))?, equal(1, u64::from(tracee))?])
    })
    .collect()
}

fn rule(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![equal(argument, value)?])
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
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
    fn the_filter_compiles_for_both_back_ends() {
        assert!(compile(&Needs { kvm: true, tracee: None }).is_ok());
        assert!(compile(&Needs { kvm: false, tracee: Some(4_000_000) }).is_ok());
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<_> = ALWAYS.iter().map(|(call, _)| call).collect();
        calls.sort_unstable();
        assert!(calls.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
