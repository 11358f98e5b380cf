//! The child as its tracer sees it: ptrace and wait requests, each a small safe function.

use libc::{c_int, c_uint, c_void, pid_t, user_regs_struct};
use std::io;
use std::mem::{offset_of, size_of};
use std::ptr::null_mut;

/// Why the child does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal is about to be delivered; continuing without it suppresses it.
    Signal(c_int),
    /// It is at the entry of a system call, which the filter reports.
    SystemCall,
    /// It was interrupted by [`Tracee::interrupt`].
    Interrupt,
    /// It stopped for some other reason; it can be continued.
    Other,
    /// It has exited with this status.
    Exited(c_int),
    /// It was killed by this signal.
    Killed(c_int),
}

/// Bytes of extended state (XSAVE area, standard format) ptrace can transfer; the kernel's largest
/// today, with AMX, has 11,008.
const EXTENDED_MAX: usize = 16 * 1024;

/// Pending signals that are looked at. There is none but the kernel's own, unless somebody who may kill
/// the child anyway sends it more.
const PENDING_MAX: usize = 32;

/// NT_X86_XSTATE, the register set that is the whole XSAVE area.
const NT_X86_XSTATE: c_int = 0x202;

/// Registers up to SS: the rest (segment bases and selectors) stay as the guest has them. Writing a
/// segment base back is not only superfluous: ptrace refuses those above the user half, which a guest
/// can load with WRFSBASE.
const GENERAL_BYTES: usize = offset_of!(user_regs_struct, fs_base);

/// A traced child process; killed and reaped when dropped.
#[derive(Debug)]
pub struct Tracee {
    pid: pid_t,
    reaped: bool,
}

impl Tracee {
    /// Takes charge of the child `pid`, which must have been forked by this process.
    #[must_use]
    pub fn new(pid: pid_t) -> Self {
        Self { pid, reaped: false }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> pid_t {
        self.pid
    }

    /// Starts tracing: the child dies with its tracer, and filtered system calls stop it.
    ///
    /// # Errors
    /// When the host forbids it, as some containers and Yama do.
    pub fn seize(&self) -> io::Result<()> {
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESECCOMP;
        self.request(libc::PTRACE_SEIZE, 0, options as usize)
    }

    /// Waits until the child stops or ends; `None` when a signal handler ran in this thread.
    ///
    /// # Errors
    /// When there is no such child.
    pub fn wait(&mut self) -> io::Result<Option<Stop>> {
        let mut status = 0;
        // SAFETY: the status is a valid place to write to.
        let pid = unsafe { libc::wait4(self.pid, &raw mut status, libc::__WALL, null_mut()) };
        if pid == self.pid {
            return Ok(Some(self.classify(status)));
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(None) } else { Err(error) }
    }

    /// As [`Tracee::wait`], but waits on when a signal handler ran.
    ///
    /// # Errors
    /// When there is no such child.
    pub fn wait_through(&mut self) -> io::Result<Stop> {
        loop {
            if let Some(stop) = self.wait()? {
                return Ok(stop);
            }
        }
    }

    fn classify(&mut self, status: c_int) -> Stop {
        if libc::WIFEXITED(status) {
            self.reaped = true;
            return Stop::Exited(libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            self.reaped = true;
            return Stop::Killed(libc::WTERMSIG(status));
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            (0, signal) => Stop::Signal(signal),
            (libc::PTRACE_EVENT_SECCOMP, _) => Stop::SystemCall,
            (libc::PTRACE_EVENT_STOP, libc::SIGTRAP) => Stop::Interrupt,
            _ => Stop::Other,
        }
    }

    /// Lets the stopped child run on, without the signal it stopped for.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.request(libc::PTRACE_CONT, 0, 0)
    }

    /// Delivers `signal` to the stopped child, which stops again before its handler's first
    /// instruction.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn deliver(&self, signal: c_int) -> io::Result<()> {
        self.request(libc::PTRACE_SINGLESTEP, 0, signal as usize)
    }

    /// Makes the child stop soon with [`Stop::Interrupt`]: at once if it runs, otherwise as soon as it
    /// is continued.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn interrupt(&self) -> io::Result<()> {
        interrupt(self.pid)
    }

    /// All registers of the stopped child.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn registers(&self) -> io::Result<user_regs_struct> {
        // SAFETY: the structure holds only integers, for which zero is valid.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        self.request(libc::PTRACE_GETREGS, 0, (&raw mut registers) as usize)?;
        Ok(registers)
    }

    /// Replaces the general registers, RIP, RFLAGS, CS and SS of the stopped child, and the number of
    /// the system call it is about to make.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn set_general(&self, registers: &user_regs_struct) -> io::Result<()> {
        let base = (&raw const *registers).cast_mut().cast::<c_void>();
        self.set_regset(libc::NT_PRSTATUS, base, GENERAL_BYTES)
    }

    /// Replaces all registers of the stopped child, segment bases and selectors included.
    ///
    /// # Errors
    /// When the child is gone, or a selector or base is not one user code may have.
    pub fn set_all(&self, registers: &user_regs_struct) -> io::Result<()> {
        let base = (&raw const *registers).cast_mut().cast::<c_void>();
        self.set_regset(libc::NT_PRSTATUS, base, size_of::<user_regs_struct>())
    }

    /// Replaces CS alone, which decides whether [`Tracee::set_general`] means 64-bit registers.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn set_code_selector(&self, selector: u64) -> io::Result<()> {
        self.request(libc::PTRACE_POKEUSER, offset_of!(user_regs_struct, cs), selector as usize)
    }

    /// Writes a word to the stopped child's memory, whatever the child may do there itself; where it
    /// shares a file's page with others it gets one of its own.
    ///
    /// # Errors
    /// When the child is gone, or shares memory there that it may not write.
    pub fn write_word(&self, address: u64, word: u64) -> io::Result<()> {
        self.request(libc::PTRACE_POKETEXT, address as usize, word as usize)
    }

    /// Copies x87, SSE, AVX and all other extended state out of the stopped child.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn save_extended(&self, area: &mut Vec<u8>) -> io::Result<()> {
        area.resize(EXTENDED_MAX, 0);
        let mut vector = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
        let place = (&raw mut vector) as usize;
        self.request(libc::PTRACE_GETREGSET, NT_X86_XSTATE as usize, place)?;
        area.truncate(vector.iov_len);
        Ok(())
    }

    /// Puts back what [`Tracee::save_extended`] copied.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn restore_extended(&self, area: &mut [u8]) -> io::Result<()> {
        self.set_regset(NT_X86_XSTATE, area.as_mut_ptr().cast(), area.len())
    }

    /// What the signal the child stopped for says of itself: its code and the address of a memory
    /// fault.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn signal_information(&self) -> io::Result<(c_int, u64)> {
        // SAFETY: the structure holds only integers and pointers, for which zero is valid.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        self.request(libc::PTRACE_GETSIGINFO, 0, (&raw mut information) as usize)?;
        // SAFETY: the kernel has filled the structure in, and reading the address of a signal that has
        // none gives some integer, not an undefined one: the structure was zeroed.
        let address = unsafe { information.si_addr() } as u64;
        Ok((information.si_code, address))
    }

    /// Whether a signal by which the kernel reports an exception waits to be taken: the child stopped
    /// for something else between the exception and its signal.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn fault_is_pending(&self, fault_signals: &[c_int]) -> io::Result<bool> {
        // SAFETY: the structure holds only integers and pointers, for which zero is valid.
        let mut pending: [libc::siginfo_t; PENDING_MAX] = unsafe { std::mem::zeroed() };
        let wanted = libc::ptrace_peeksiginfo_args { off: 0, flags: 0, nr: PENDING_MAX as i32 };
        let place = (&raw mut pending) as usize;
        let address = (&raw const wanted) as usize;
        // SAFETY: the request reads the arguments and writes as many structures as they say, which the
        // array has room for.
        let count = unsafe { libc::ptrace(libc::PTRACE_PEEKSIGINFO, self.pid, address, place) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(pending[..count].iter().any(|signal| fault_signals.contains(&signal.si_signo)))
    }

    /// The restartable-sequences area the C library has registered for the stopped child, or `None`.
    #[must_use]
    pub fn restartable_sequences(&self) -> Option<libc::ptrace_rseq_configuration> {
        // SAFETY: the structure holds only integers, for which zero is valid.
        let mut area: libc::ptrace_rseq_configuration = unsafe { std::mem::zeroed() };
        let length = size_of::<libc::ptrace_rseq_configuration>();
        let place = (&raw mut area) as usize;
        let asked = self.request(libc::PTRACE_GET_RSEQ_CONFIGURATION, length, place);
        (asked.is_ok() && area.rseq_abi_pointer != 0).then_some(area)
    }

    fn set_regset(&self, set: c_int, base: *mut c_void, length: usize) -> io::Result<()> {
        let mut vector = libc::iovec { iov_base: base, iov_len: length };
        self.request(libc::PTRACE_SETREGSET, set as usize, (&raw mut vector) as usize)
    }

    fn request(&self, request: c_uint, address: usize, data: usize) -> io::Result<()> {
        // SAFETY: every caller above passes as `data` a number, or the address of a live object of the
        // type and size the request reads or writes; the kernel checks everything else.
        let status = unsafe { libc::ptrace(request, self.pid, address, data) };
        if status == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // SAFETY: a plain system call; the child has not been reaped, so the id is still its own.
        let killed = unsafe { libc::kill(self.pid, libc::SIGKILL) } == 0;
        // A monitor that has changed its user since may not kill; the child then ends with the tracer.
        while killed && !self.reaped && self.wait().is_ok() {}
    }
}

/// [`Tracee::interrupt`] for signal handlers: a single system call.
///
/// # Errors
/// When the child is gone, or not traced by this thread.
pub fn interrupt(pid: pid_t) -> io::Result<()> {
    // SAFETY: the request takes no memory.
    let status = unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0_usize, 0_usize) };
    if status == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// True for the error of a request to a child that was killed meanwhile.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}
