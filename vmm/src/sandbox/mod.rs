//! The sandbox of the monitor: from here to its end it opens nothing, and makes only the system calls
//! listed here, each with its reason.

use crate::events::ARRIVAL;
use crate::start::StartError;
use denali_hypervisor::kvm::SAVE_IOCTLS;
use denali_launcher::spec::Likeness;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use numbers::Verdict;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

mod calls;
mod numbers;
mod setup;
mod withdraw;

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
    /// To be set up.
    pub(crate) set_up: SetUp,
}

/// What else is allowed because a guest is still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SetUp {
    /// Nothing: the guest is there, and all that it needs is made.
    #[default]
    Done,
    /// What setting up any guest takes of which all was made that can be, for good: see `setup::PLAIN`.
    Plain,
    /// What setting up whichever guest takes. Another filter follows, before the guest's first instruction.
    Any,
}

/// How far a monitor has entered its sandbox before it has a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// Not at all.
    #[default]
    None,
    /// As far as setting up any guest allows.
    Partial,
    /// For good.
    Whole,
}

/// Enters the sandbox before there is a guest, as far as it is known from what it will be like. One that cannot
/// be entered now is entered, or refused, when there is a guest. `root` is an empty folder.
pub(crate) fn enter_waiting(likeness: Likeness, root: Option<OwnedFd>) -> Confinement {
    // Where the host does not let it, the filter does without: it has no call that takes a path.
    if let Some(root) = root {
        let _ = withdraw::leave_files(&root);
    }
    if likeness.plain && withdraw::drop_capabilities().is_err() {
        return Confinement::None;
    }
    let (needs, confinement) = match likeness.plain {
        true => (Needs::of_any_plain_guest(), Confinement::Whole),
        false => (Needs::of_any_guest(), Confinement::Partial),
    };
    enter(&needs).map_or(Confinement::None, |()| confinement)
}

impl Needs {
    /// What some plain guest needs (see [`Likeness`]): KVM runs it, it has neither disks nor devices of other
    /// processes.
    fn of_any_plain_guest() -> Self {
        Self {
            disk: false,
            uring: false,
            vhost_user: false,
            set_up: SetUp::Plain,
            ..Self::of_any_guest()
        }
    }

    /// What some guest needs, and setting it up. All filters of a process hold, so that this one allows what
    /// any that follows does.
    fn of_any_guest() -> Self {
        Self {
            kvm: true,
            tracee: None,
            disk: true,
            uring: true,
            datagrams: true,
            wire: true,
            vhost_user: true,
            broker: true,
            control: true,
            swap: true,
            set_up: SetUp::Any,
        }
    }
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
    let mut rules = rules(needs).map_err(|error| error.to_string())?;
    if needs.set_up == SetUp::Any {
        rules.retain(|&call, _| setup::ANY.iter().all(|&(free, _)| free != call));
    }
    let free = calls::needed(needs).map(|(call, _)| (call, Verdict::Allow));
    let ruled = rules.keys().map(|&call| (call, Verdict::Arguments));
    // Of `clone3`, whose arguments a filter cannot see, it seems that it is missing: the C library then makes its
    // threads by `clone`.
    // Nor can the standard streams be opened anew in a monitor that is not to open anything: there is another way.
    let missing = [(libc::SYS_clone3, Verdict::Missing), (libc::SYS_openat, Verdict::Missing)];
    let missing = missing
        .into_iter()
        .filter(|&(call, _)| call != libc::SYS_openat || needs.set_up == SetUp::Any);
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
    let no_code = || masked(2, libc::PROT_EXEC as u64, 0);
    let (anonymous, kind) = (libc::MAP_ANONYMOUS as u64, libc::MAP_TYPE as u64);
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![no_code()?, masked(3, anonymous, anonymous)?])?],
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
    rules.insert(libc::SYS_setsockopt, vec![option((libc::SOL_SOCKET, libc::SO_LINGER))?]);
    if needs.set_up == SetUp::Plain {
        let mut more = |call, rule| rules.entry(call).or_insert_with(Vec::new).push(rule);
        for (call, argument, value) in setup::ARGUMENTS {
            more(*call, rule(*argument, *value)?);
        }
        for sockets in setup::SOCKET_OPTIONS {
            more(libc::SYS_setsockopt, option(*sockets)?);
        }
        // The image: of a file that is open already nothing but its content, and never to be executed.
        let private = masked(3, kind, libc::MAP_PRIVATE as u64)?;
        more(libc::SYS_mmap, SeccompRule::new(vec![no_code()?, private])?);
    }
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
    let set_up = setup::IOCTLS.iter().map(|(request, _)| *request);
    let set_up = set_up.filter(|_| needs.set_up == SetUp::Plain);
    let all = kvm.chain(tap).chain(save).chain(pager).chain(set_up);
    all.map(|request| rule(1, request)).collect()
}

/// Setting one option of sockets: its level and name.
fn option(
    (level, name): (libc::c_int, libc::c_int),
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![equal(1, level as u64)?, equal(2, name as u64)?])
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
    use denali_hypervisor::kvm::MEMORY_IOCTL;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// How a process ends that enters a sandbox and makes a system call.
    fn end_after(needs: &Needs, call: libc::c_long, arguments: [u64; 5]) -> WaitStatus {
        // SAFETY: the child makes a few system calls and ends without going back to the tests.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
            ForkResult::Child => {
                let entered = enter(needs).is_ok();
                let [a, b, c, d, e] = arguments;
                // SAFETY: none of the calls in these tests touches memory of this process.
                unsafe { libc::syscall(call, a, b, c, d, e) };
                // SAFETY: ends the process.
                unsafe { libc::_exit(i32::from(!entered)) }
            }
        }
    }

    #[track_caller]
    fn assert_killed(needs: &Needs, call: libc::c_long, arguments: [u64; 5]) {
        let end = end_after(needs, call, arguments);
        assert!(matches!(end, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{call}: {end:?}");
    }

    #[track_caller]
    fn assert_let_through(needs: &Needs, call: libc::c_long, arguments: [u64; 5]) {
        let end = end_after(needs, call, arguments);
        assert!(matches!(end, WaitStatus::Exited(_, 0)), "{call}: {end:?}");
    }

    /// Calls that no monitor makes in its sandbox, waiting or not.
    const NEVER: [(libc::c_long, [u64; 5]); 7] = [
        (libc::SYS_execve, [0; 5]),
        (libc::SYS_open, [0; 5]),
        (libc::SYS_openat2, [0; 5]),
        (libc::SYS_socket, [1, 1, 0, 0, 0]),
        (libc::SYS_connect, [0; 5]),
        (libc::SYS_process_vm_writev, [0; 5]),
        (libc::SYS_unlinkat, [0; 5]),
    ];

    #[test]
    fn a_monitor_that_waits_for_a_plain_guest_is_confined_as_if_it_had_one() {
        const KVM_CREATE_VM: u64 = 0xae01;
        let executable = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let needs = Needs::of_any_plain_guest();
        for (call, arguments) in NEVER {
            assert_killed(&needs, call, arguments);
        }
        assert_killed(&needs, libc::SYS_openat, [0; 5]);
        assert_killed(&needs, libc::SYS_newfstatat, [0; 5]);
        assert_killed(&needs, libc::SYS_io_uring_setup, [8, 0, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_io_uring_register, [u64::MAX, 9, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_ptrace, [0; 5]);
        assert_killed(&needs, libc::SYS_seccomp, [u64::MAX; 5]);
        assert_killed(&needs, libc::SYS_dup2, [0, 5, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_ioctl, [0, KVM_CREATE_VM, 0, 0, 0]);
        for kind in [libc::MAP_PRIVATE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS] {
            assert_killed(&needs, libc::SYS_mmap, [0, 4096, executable, kind as u64, u64::MAX]);
        }
        let (read, shared) = (libc::PROT_READ as u64, libc::MAP_SHARED as u64);
        assert_killed(&needs, libc::SYS_mmap, [0, 4096, read, shared, u64::MAX]);
        // What the guest's arrival takes, here of descriptors that there are not.
        let (none, private) = (u64::MAX, libc::MAP_PRIVATE as u64);
        assert_let_through(&needs, libc::SYS_mmap, [0, 4096, read, private, none]);
        assert_let_through(&needs, libc::SYS_dup2, [none, 1, 0, 0, 0]);
        assert_let_through(&needs, libc::SYS_io_uring_register, [none, 2, 0, 0, 0]);
        assert_let_through(&needs, libc::SYS_ioctl, [none, MEMORY_IOCTL, 0, 0, 0]);
    }

    #[test]
    fn a_monitor_that_waits_for_any_guest_opens_and_executes_nothing() {
        let needs = Needs::of_any_guest();
        for (call, arguments) in NEVER {
            assert_killed(&needs, call, arguments);
        }
        // It seems that there is no such call.
        assert_let_through(&needs, libc::SYS_openat, [u64::MAX, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_allowed_before_there_is_a_guest_allows_what_its_own_filter_does() {
        let allowed = |needs: &Needs| -> BTreeMap<libc::c_long, bool> {
            let ruled = rules(needs).unwrap().into_keys().map(|call| (call, false));
            let free = calls::needed(needs).map(|(call, _)| (call, true));
            ruled.chain(free).collect()
        };
        let guest = Needs { set_up: SetUp::Done, tracee: Some(7), ..Needs::of_any_guest() };
        let before = allowed(&Needs::of_any_guest());
        for (call, free) in allowed(&guest) {
            let allows = before.get(&call);
            assert!(allows.is_some_and(|&before| before || !free), "{call}: {allows:?}");
        }
    }

    #[test]
    fn what_setting_up_takes_is_not_allowed_to_a_guest_that_is_there() {
        let needs = Needs { kvm: true, swap: true, control: true, ..Needs::default() };
        assert_killed(&needs, libc::SYS_dup2, [u64::MAX, 1, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_io_uring_register, [u64::MAX, 2, 0, 0, 0]);
        assert_killed(&needs, libc::SYS_ioctl, [u64::MAX, MEMORY_IOCTL, 0, 0, 0]);
    }

    #[test]
    fn the_filter_compiles_for_whatever_is_needed() {
        let everything =
            Needs { tracee: Some(4_000_000), set_up: SetUp::Done, ..Needs::of_any_guest() };
        let some = [Needs::default(), Needs { kvm: true, ..Needs::default() }, everything];
        for needs in some.into_iter().chain([Needs::of_any_guest(), Needs::of_any_plain_guest()]) {
            assert!(compile(&needs).is_ok(), "{needs:?}");
        }
    }
}
