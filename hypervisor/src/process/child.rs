//! What the child does between its fork and the stub: it makes itself the guest's address space.
//!
//! The child is a copy of the monitor, whose other threads (in tests) may have held any lock at the
//! fork. So it makes plain system calls only, allocates nothing, and ends here or in the stub.

use super::plan::{Mapping, Plan};
use denali_abi::layout::RAM_START;
use denali_arch::space::Access;
use libc::{c_int, c_long};
use std::arch::asm;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Tying its life to the monitor's, and giving up privileges and core dumps.
    Restrict = 1,
    /// Waiting for its tracer.
    Wait,
    /// Mapping the guest's memory.
    Map,
    /// Moving the signal stack to its place.
    MoveStack,
    /// Preparing the delivery of signals.
    Signals,
    /// Closing the monitor's descriptors.
    Close,
    /// Unmapping what is the monitor's.
    Unmap,
    /// Installing the filter of system calls.
    Filter,
}

impl Step {
    /// What to tell the user when the step with this number failed.
    #[must_use]
    pub fn describe(number: u32) -> &'static str {
        const STEPS: [(Step, &str); 8] = [
            (Step::Restrict, "restrict the guest's process"),
            (Step::Wait, "wait for the tracer of the guest's process"),
            (
                Step::Map,
                "map guest memory in the guest's process (the monitor must be loaded above 4 GiB, as \
                 position-independent programs are, and vm.mmap_min_addr be at most 1 MiB)",
            ),
            (Step::MoveStack, "place the signal stack of the guest's process"),
            (Step::Signals, "prepare signals in the guest's process"),
            (Step::Close, "close the monitor's descriptors in the guest's process"),
            (Step::Unmap, "unmap the monitor from the guest's process"),
            (Step::Filter, "install the system call filter of the guest's process"),
        ];
        let step = STEPS.iter().find(|(step, _)| *step as u32 == number);
        step.map_or("set up the guest's process", |(_, text)| text)
    }
}

/// The signals by which the kernel reports processor exceptions. They must not be blocked: the kernel
/// kills a process whose own fault it cannot report.
pub const FAULT_SIGNALS: [c_int; 5] =
    [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV];

/// The kernel's own layout of a signal action, which the C library does not let through unchanged.
#[repr(C)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// The kernel requires a return address for handlers; nothing ever returns to it.
const SA_RESTORER: u64 = 0x0400_0000;

/// Runs in the child: sets everything up and enters the stub, or reports why not and exits.
///
/// # Safety
/// Only in a process that was just forked and does nothing else: its address space is torn down.
pub unsafe fn enter(plan: &Plan) -> ! {
    let Err((step, errno)) = prepare(plan) else {
        // SAFETY: the stub was copied there and made executable; it needs no stack and never returns.
        unsafe { asm!("jmp {stub}", stub = in(reg) plan.setup.start(), options(noreturn)) }
    };
    let control = plan.control();
    control.errno.store(errno, Ordering::Relaxed);
    control.failed_step.store(step as u32, Ordering::Release);
    // SAFETY: ends the process without running anything of the monitor's.
    unsafe { libc::_exit(1) }
}

type Failure = (Step, c_int);

fn prepare(plan: &Plan) -> Result<(), Failure> {
    restrict(plan)?;
    plan.mappings.iter().try_for_each(map)?;
    let (start, length) = (RAM_START as usize, (plan.memory_size - RAM_START) as usize);
    // Huge pages would make the few pages an idle guest touches cost megabytes. Fails harmlessly at
    // the gaps, and where there are no huge pages.
    let _ = call(Step::Map, libc::SYS_madvise, [start, length, libc::MADV_NOHUGEPAGE as usize, 0]);
    move_signal_stack(plan)?;
    set_signals(plan)?;
    close_everything()?;
    wait_for_tracer(&plan.control().go)?;
    // Last, because nobody could trace it otherwise: no core dump, wherever the system sends those,
    // and no look at guest memory for other processes of this user.
    call(Step::Restrict, libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 0, 0, 0])
}

/// Ties the child's life to the parent's and gives up what it could ever gain.
fn restrict(plan: &Plan) -> Result<(), Failure> {
    let step = Step::Restrict;
    call(step, libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0])?;
    // SAFETY: a plain system call.
    if unsafe { libc::getppid() } != plan.parent {
        return Err((step, libc::ESRCH));
    }
    call(step, libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0])?;
    // Without legacy quirks: PROT_READ must not imply PROT_EXEC.
    let _ = call(step, libc::SYS_personality, [0; 4]);
    forbid_core_dumps()
}

/// Until the process cannot be dumped at all. A program that `core_pattern` names gets what dies whatever the
/// limit is, but for a limit of one byte.
fn forbid_core_dumps() -> Result<(), Failure> {
    let most = limit(Step::Restrict, libc::RLIMIT_CORE)?.min(1);
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let place = (&raw const limit) as usize;
    call(Step::Restrict, libc::SYS_setrlimit, [libc::RLIMIT_CORE as usize, place, 0, 0])
}

/// The most that this process may have of a resource.
fn limit(step: Step, resource: libc::__rlimit_resource_t) -> Result<libc::rlim_t, Failure> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let place = (&raw mut limit) as usize;
    call(step, libc::SYS_getrlimit, [resource as usize, place, 0, 0])?;
    Ok(limit.rlim_max)
}

fn map(mapping: &Mapping) -> Result<(), Failure> {
    let region = mapping.region;
    let protection = match region.access {
        Access::Read => libc::PROT_READ,
        Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        Access::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
    };
    let sharing = if mapping.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let flags = sharing | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    let address = region.start as usize as *mut libc::c_void;
    let (length, offset) = ((region.end - region.start) as usize, mapping.offset as libc::off_t);
    // SAFETY: the kernel refuses to map over anything that exists in this process.
    let got = unsafe { libc::mmap(address, length, protection, flags, mapping.fd, offset) };
    if got == libc::MAP_FAILED {
        return Err((Step::Map, errno()));
    }
    // A kernel that does not know the flag may have chosen another place.
    if got == address { Ok(()) } else { Err((Step::Map, libc::EEXIST)) }
}

/// Gives the signal stack the address the plan chose: not the monitor's, which would tell a guest that
/// finds it where the monitor is.
fn move_signal_stack(plan: &Plan) -> Result<(), Failure> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let length = plan.signal_stack.length() as usize;
    let old = plan.signal_stack.start() as usize as *mut libc::c_void;
    let new = plan.signal_stack_start as usize as *mut libc::c_void;
    // SAFETY: both ranges are this process's: the pages shared with the monitor, which it reaches only
    // through their new address from now on, and addresses at which no program has anything.
    let got = unsafe { libc::mremap(old, length, length, flags, new) };
    if got == new { Ok(()) } else { Err((Step::MoveStack, errno())) }
}

/// Has the kernel put the frames of fault signals on the signal stack, and block all others.
fn set_signals(plan: &Plan) -> Result<(), Failure> {
    let step = Step::Signals;
    let stack = libc::stack_t {
        ss_sp: plan.signal_stack_start as usize as *mut libc::c_void,
        ss_flags: 0,
        ss_size: plan.signal_stack.length() as usize,
    };
    call(step, libc::SYS_sigaltstack, [(&raw const stack) as usize, 0, 0, 0])?;
    // The child is always stopped before a handler's first instruction, so any address serves: this
    // one faults if it is ever reached, as the stack is not executable.
    let action = KernelAction {
        handler: plan.signal_stack_start,
        flags: libc::SA_SIGINFO as u64
            | libc::SA_ONSTACK as u64
            | libc::SA_NODEFER as u64
            | SA_RESTORER,
        restorer: plan.signal_stack_start,
        mask: 0,
    };
    let action = (&raw const action) as usize;
    let mut blocked = u64::MAX;
    for signal in FAULT_SIGNALS {
        call(step, libc::SYS_rt_sigaction, [signal as usize, action, 0, size_of::<u64>()])?;
        blocked &= !(1 << (signal - 1));
    }
    let (how, set) = (libc::SIG_SETMASK as usize, (&raw const blocked) as usize);
    call(step, libc::SYS_rt_sigprocmask, [how, set, 0, size_of::<u64>()])
}

/// Closes all descriptors; where the kernel or a container's filter lacks `close_range`, one by one.
fn close_everything() -> Result<(), Failure> {
    if call(Step::Close, libc::SYS_close_range, [0, u32::MAX as usize, 0, 0]).is_ok() {
        return Ok(());
    }
    for fd in 0..limit(Step::Close, libc::RLIMIT_NOFILE)?.min(1 << 20) {
        let _ = call(Step::Close, libc::SYS_close, [fd as usize, 0, 0, 0]);
    }
    Ok(())
}

/// Sleeps until the parent has said that it traces this process.
fn wait_for_tracer(go: &AtomicU32) -> Result<(), Failure> {
    while go.load(Ordering::Acquire) == 0 {
        let place = std::ptr::from_ref(go) as usize;
        match call(Step::Wait, libc::SYS_futex, [place, libc::FUTEX_WAIT as usize, 0, 0]) {
            Ok(()) | Err((_, libc::EAGAIN | libc::EINTR)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Makes a system call that succeeds with any value but -1.
fn call(step: Step, number: c_long, arguments: [usize; 4]) -> Result<(), Failure> {
    let [a, b, c, d] = arguments;
    // SAFETY: every caller passes numbers, and addresses of live objects that the call only reads, or
    // writes within their size; no call here takes more than four arguments.
    let status = unsafe { libc::syscall(number, a, b, c, d, 0_usize) };
    if status == -1 { Err((step, errno())) } else { Ok(()) }
}

fn errno() -> c_int {
    // SAFETY: the pointer is to this thread's error number, always valid.
    unsafe { *libc::__errno_location() }
}
