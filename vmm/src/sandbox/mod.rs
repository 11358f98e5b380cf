//! The sandbox of the monitor: from here to its end it opens nothing, and makes only the system calls
//! listed here, each with its reason.

use crate::events::ARRIVAL;
use crate::start::StartError;
use denali_hypervisor::kvm::SAVE_IOCTLS;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use numbers::Verdict;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

mod calls;
mod numbers;

/// What the guest's back end and devices need beyond what every guest does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// KVM's ioctls.
    pub(crate) kvm: bool,
    /// Tracing this process.
    pub(crate) tracee: Option<u32>,
    /// A file as a disk, one request after the other.
    pub(crate) disk: bool,
    /// A file as a disk, by io_uring.
    pub(crate) uring: bool,
    /// A published port for datagrams.
    pub(crate) datagrams: bool,
    /// A tap, or a seqpacket socket.
    pub(crate) wire: bool,
    /// A vhost-user back end.
    pub(crate) vhost_user: bool,
    /// A broker.
    pub(crate) broker: bool,
    /// A control socket.
    pub(crate) control: bool,
    /// A swap region.
    pub(crate) swap: bool,
}

/// Gives up core dumps, new privileges and all system calls but those needed.
pub(crate) fn enter(needs: &Needs) -> Result<(), StartError> {
    forbid_core_dumps().map_err(|source| StartError::Host { what: "forbid core dumps", source })?;
    let program = compile(needs).map_err(StartError::Sandbox)?;
    // This sets PR_SET_NO_NEW_PRIVS first.
    seccompiler::apply_filter(&program).map_err(|error| StartError::Sandbox(error.to_string()))
}

/// A program that `core_pattern` names gets what dies whatever the limit is, but for a limit of one byte, by
/// which the kernel knows its own helpers. For a file that is as good as none.
fn forbid_core_dumps() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = most.min(1);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)
}

/// The filter: what the number alone decides, then the arguments of the rest.
fn compile(needs: &Needs) -> Result<BpfProgram, String> {
    let rules = rules(needs).map_err(|error| error.to_string())?;
    let free = calls::needed(needs).map(|(call, _)| (call, Verdict::Allow));
    let ruled = rules.keys().map(|&call| (call, Verdict::Arguments));
    // Of `clone3`, whose arguments a filter cannot see, it seems that it is missing: the C library then makes its
    // threads by `clone`.
    let missing = [(libc::SYS_clone3, Verdict::Missing)];
    let verdicts = free.chain(ruled).chain(missing);
    let verdicts = verdicts.map(|(call, verdict)| (call as u32, verdict)).collect();
    let mut program = numbers::decide(&verdicts).ok_or("there are too many system calls")?;
    let arguments: Result<BpfProgram, _> = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .and_then(BpfProgram::try_from);
    program.extend(arguments.map_err(|error| error.to_string())?);
    Ok(program)
}

/// The calls of which the arguments matter.
fn rules(needs: &Needs) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    // The allocator: private memory that cannot be executed.
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![
            masked(2, libc::PROT_EXEC as u64, 0)?,
            masked(3, libc::MAP_ANONYMOUS as u64, libc::MAP_ANONYMOUS as u64)?,
        ])?],
    );
    // The stack of a thread; never memory that can be executed.
    rules.insert(
        libc::SYS_mprotect,
        vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC as u64, 0)?])?],
    );
    // A thread, never a process.
    rules.insert(libc::SYS_clone, vec![rule(0, THREAD)?]);
    // The signals that the C library keeps for itself, at the first thread.
    rules.insert(libc::SYS_rt_sigaction, vec![rule(0, 32)?, rule(0, 33)?]);
    rules.insert(libc::SYS_tgkill, vec![interruptions()?]);
    rules.insert(libc::SYS_sched_setattr, shares(needs)?);
    // Debug builds of the standard library check that a descriptor is open before they close it.
    rules.insert(libc::SYS_fcntl, vec![rule(1, libc::F_GETFD as u64)?]);
    // Connections reset instead of closed.
    let option = [equal(1, libc::SOL_SOCKET as u64)?, equal(2, libc::SO_LINGER as u64)?];
    rules.insert(libc::SYS_setsockopt, vec![SeccompRule::new(option.to_vec())?]);
    if needs.swap {
        rules.insert(libc::SYS_prctl, vec![rule(0, libc::PR_SET_NAME as u64)?]);
    }
    let ioctls = ioctls(needs)?;
    if !ioctls.is_empty() {
        rules.insert(libc::SYS_ioctl, ioctls);
    }
    if let Some(tracee) = needs.tracee {
        rules.insert(libc::SYS_ptrace, trace_requests(tracee)?);
        rules.insert(libc::SYS_wait4, vec![rule(0, u64::from(tracee))?]);
    }
    Ok(rules)
}

/// The flags with which the C library makes a thread.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;

/// The watcher interrupts this process's vCPU.
fn interruptions() -> Result<SeccompRule, seccompiler::BackendError> {
    let own = u64::from(std::process::id());
    SeccompRule::new(vec![equal(0, own)?, equal(2, ARRIVAL as u64)?])
}

/// The precedence of this thread, and of the process that executes the guest.
fn shares(needs: &Needs) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    [Some(0), needs.tracee].into_iter().flatten().map(|task| rule(0, u64::from(task))).collect()
}

/// Running the vCPU, its way out of an exception, and saving it; what the driver of a tap's card takes; memory
/// that comes back.
fn ioctls(needs: &Needs) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const KVM_RUN: u64 = 0xae80;
    const KVM_GET_SREGS: u64 = 0x8138_ae83;
    const KVM_SET_SREGS: u64 = 0x4138_ae84;
    const TUNSETOFFLOAD: u64 = 0x4004_54d0;
    let kvm = [KVM_RUN, KVM_GET_SREGS, KVM_SET_SREGS].into_iter().filter(|_| needs.kvm);
    let tap = [TUNSETOFFLOAD].into_iter().filter(|_| needs.wire);
    let saves = needs.kvm && (needs.swap || needs.control);
    let save = SAVE_IOCTLS.into_iter().filter(|_| saves);
    let pager = denali_pager::IOCTLS.iter().map(|(request, _)| *request).filter(|_| needs.swap);
    kvm.chain(tap).chain(save).chain(pager).map(|request| rule(1, request)).collect()
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
    fn the_filter_compiles_for_whatever_is_needed() {
        let everything = Needs {
            kvm: true,
            tracee: Some(4_000_000),
            disk: true,
            uring: true,
            datagrams: true,
            wire: true,
            vhost_user: true,
            broker: true,
            control: true,
            swap: true,
        };
        for needs in [Needs::default(), Needs { kvm: true, ..Needs::default() }, everything] {
            assert!(compile(&needs).is_ok(), "{needs:?}");
        }
    }
}
