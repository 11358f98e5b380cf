//! The monitor's side of making the child: fork, trace, and see it through its set-up.

use super::child::{self, Step};
use super::fault::{Saved, Signal};
use super::pages::SharedPages;
use super::plan::Plan;
use super::stub;
use super::tracee::{Stop, Tracee};
use crate::{Error, GuestRam};
use libc::{c_int, user_regs_struct};
use std::io;
use std::sync::atomic::Ordering;

/// A child that is setting itself up.
#[derive(Debug)]
pub struct Spawned {
    tracee: Tracee,
    plan: Plan,
}

/// A child that has nothing but the guest's memory, stopped, its extended state as after a reset.
#[derive(Debug)]
pub struct Ready {
    /// The child.
    pub tracee: Tracee,
    /// The stack on which it receives signals, as the monitor maps it.
    pub signal_stack: SharedPages,
    /// Where the child has it.
    pub signal_stack_start: u64,
    /// Extended state as after a reset.
    clean: Vec<u8>,
}

impl Ready {
    /// Extended state as after a reset: an XSAVE area in the standard format.
    #[must_use]
    pub fn clean(&self) -> &[u8] {
        &self.clean
    }

    /// Delivers the signal the child stopped for, and reads the frame the kernel made of it. The
    /// child's registers are the handler's afterwards, its extended state that of a reset.
    /// `registers` are those it stopped with. The inner error is a stop that came instead.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn deliver(
        &mut self,
        number: c_int,
        registers: &user_regs_struct,
    ) -> io::Result<Result<Saved, Stop>> {
        // A stack pointer that happens to be on the signal stack would have the frame go below it.
        let elsewhere = user_regs_struct { rsp: 0, ..*registers };
        self.tracee.set_general(&elsewhere)?;
        // Neither may the guest's protection key rights stand in the frame's way.
        if !self.clean.is_empty() {
            self.tracee.restore_extended(&mut self.clean)?;
        }
        self.tracee.deliver(number)?;
        let stop = self.tracee.wait_through()?;
        if stop != Stop::Signal(libc::SIGTRAP) {
            return Ok(Err(stop));
        }
        let handler = self.tracee.registers()?;
        if handler.rip != self.signal_stack_start {
            return Ok(Err(stop));
        }
        let saved = Saved::read(&self.signal_stack, self.signal_stack_start, handler.rsp);
        Ok(saved.ok_or(stop))
    }
}

impl Spawned {
    /// Forks the child and starts to trace it.
    ///
    /// # Errors
    /// When the host does not allow it.
    pub fn new(ram: &GuestRam) -> Result<Self, Error> {
        let plan = Plan::new(ram)?;
        let tracee = Tracee::new(fork(&plan)?);
        tracee.seize().map_err(Error::host(
            "trace the guest's process (is ptrace forbidden here, by a container's filter or by \
             kernel.yama.ptrace_scope?)",
        ))?;
        let go = &plan.control().go;
        go.store(1, Ordering::Release);
        // SAFETY: the word is in pages that `plan` keeps mapped; waking has no other effect.
        unsafe { libc::syscall(libc::SYS_futex, std::ptr::from_ref(go), libc::FUTEX_WAKE, 1) };
        Ok(Self { tracee, plan })
    }

    /// Sees the child through the stub's three stops (described there).
    ///
    /// # Errors
    /// What the child failed at.
    pub fn finish(mut self) -> Result<Ready, Error> {
        const WHAT: &str = "set up the guest's process";
        self.start_stub()?;
        let registers = self.expect(Stop::SystemCall, 0)?;
        let setup = self.plan.setup.start();
        if registers.orig_rax != libc::SYS_munmap as u64 || registers.rdi != setup {
            return Err(Error::Misuse("an unexpected system call while setting up a process"));
        }
        self.tracee.resume().map_err(Error::host(WHAT))?;
        let registers = self.expect(Stop::Signal(libc::SIGSEGV), registers.rip)?;
        let (code, address) = self.tracee.signal_information().map_err(Error::host(WHAT))?;
        let signal = Signal { number: libc::SIGSEGV, code, address };
        let Plan { signal_stack, signal_stack_start, .. } = self.plan;
        let mut ready =
            Ready { tracee: self.tracee, signal_stack, signal_stack_start, clean: Vec::new() };
        // This resets the extended state, and proves that faults can be told apart on this kernel.
        let saved = ready.deliver(libc::SIGSEGV, &registers).map_err(Error::host(WHAT))?;
        let rip = registers.rip;
        match saved {
            Ok(Saved { vector: 14, address, .. }) if address == rip && signal.address == rip => {
                ready.tracee.save_extended(&mut ready.clean).map_err(Error::host(WHAT))?;
                ready.clean.shrink_to_fit();
                Ok(ready)
            }
            _ => Err(Error::Misuse("this kernel does not report faults as others do")),
        }
    }

    fn start_stub(&mut self) -> Result<(), Error> {
        const WHAT: &str = "start the set-up code of the guest's process";
        let start = self.plan.setup.start();
        let mut registers = self.expect(Stop::Signal(libc::SIGTRAP), start + stub::FIRST_CALL)?;
        registers.r15 = 0;
        registers.r12 = std::ptr::from_ref(self.plan.control()) as u64;
        registers.r13 = start;
        registers.r14 = self.plan.setup.length();
        match self.tracee.restartable_sequences() {
            Some(area) => {
                const UNREGISTER: u64 = 1;
                registers.rax = libc::SYS_rseq as u64;
                registers.rdi = area.rseq_abi_pointer;
                registers.rsi = u64::from(area.rseq_abi_size);
                registers.rdx = UNREGISTER;
                registers.r10 = u64::from(area.signature);
            }
            None => registers.rip = start + stub::unmap_offset(),
        }
        registers.orig_rax = u64::MAX;
        self.tracee.set_general(&registers).map_err(Error::host(WHAT))?;
        self.tracee.resume().map_err(Error::host(WHAT))
    }

    /// Waits for `wanted`, at `rip` unless that is 0, and reads the registers.
    fn expect(&mut self, wanted: Stop, rip: u64) -> Result<user_regs_struct, Error> {
        const WHAT: &str = "set up the guest's process";
        loop {
            let stop = self.tracee.wait_through().map_err(Error::host(WHAT))?;
            match stop {
                Stop::Exited(_) | Stop::Killed(_) => return Err(self.failure()),
                Stop::Signal(libc::SIGSEGV | libc::SIGTRAP) | Stop::SystemCall => {}
                // Somebody's stray signal, or an early kick.
                _ => {
                    self.tracee.resume().map_err(Error::host(WHAT))?;
                    continue;
                }
            }
            let registers = self.tracee.registers().map_err(Error::host(WHAT))?;
            if stop == wanted && (rip == 0 || registers.rip == rip) {
                return Ok(registers);
            }
            let what = Step::describe(registers.r15 as u32);
            let errno = (registers.rax as i64).wrapping_neg();
            return Err(Error::Host { what, source: io::Error::from_raw_os_error(errno as i32) });
        }
    }

    /// What the child, which is gone, has said of its failure.
    fn failure(&self) -> Error {
        let control = self.plan.control();
        let what = Step::describe(control.failed_step.load(Ordering::Acquire));
        match control.errno.load(Ordering::Relaxed) {
            0 => Error::Host { what, source: io::Error::other("it was killed") },
            errno => Error::Host { what, source: io::Error::from_raw_os_error(errno) },
        }
    }
}

/// Forks by a plain system call: unlike the C library's, it leaves the child no thread pointer to
/// clear and no list of locks. All signals are blocked around it, so that the child is in nobody's
/// handler when its address space goes away.
fn fork(plan: &Plan) -> Result<libc::pid_t, Error> {
    // SAFETY: both sets are valid places for signal sets, for which zero is valid.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: as above; changing this thread's mask breaks no memory.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of this thread alone, and runs
    // `child::enter`, which uses nothing that other threads may have locked.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: this is the process just forked.
        unsafe { child::enter(plan) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: restores the mask read above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    match pid {
        -1 => Err(Error::Host { what: "fork the guest's process", source: error }),
        pid => Ok(pid as libc::pid_t),
    }
}
