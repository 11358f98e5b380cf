//! The signals that a monitor takes, and what each asks for.

use denali_interrupts::Line;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Interrupts the vCPU when a quantum is over; also what the quantum's timer sends.
const QUANTUM: Signal = Signal::SIGALRM;

/// Interrupts the vCPU because something has arrived.
pub(crate) const ARRIVAL: Signal = Signal::SIGIO;

/// Set by the signal that ends a quantum.
static QUANTUM_OVER: AtomicBool = AtomicBool::new(false);

/// What signals have asked for.
pub(crate) struct Signals {
    descriptor: SignalFd,
    stop: Line,
    stop_asked: bool,
    counters_asked: bool,
    held: bool,
    ended_by: Option<i32>,
}

/// Signals that come through a descriptor from here on.
pub(crate) struct Taken(SignalFd);

impl Taken {
    /// Starts to take SIGINT, SIGTERM, SIGUSR1 and SIGUSR2, and has SIGALRM and SIGIO interrupt the vCPU.
    pub(crate) fn new() -> io::Result<Self> {
        let mut taken = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
            taken.add(signal);
        }
        taken.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&taken, flags)?;
        install(QUANTUM, quantum_is_over)?;
        install(ARRIVAL, nothing)?;
        // A console whose reader is gone ends the guest as it ends any program. (Rust programs start
        // with this signal ignored.)
        // SAFETY: the default action runs nothing of ours.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
        Ok(Self(descriptor))
    }
}

impl AsFd for Taken {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Signals {
    /// Gives signals their meaning: the first SIGINT or SIGTERM raises `stop`, the second ends the guest,
    /// SIGUSR1 asks for counters, and SIGUSR2 holds the guest or releases it.
    pub(crate) fn new(Taken(descriptor): Taken, stop: Line) -> Self {
        let (stop_asked, counters_asked, held) = (false, false, false);
        Self { descriptor, stop, stop_asked, counters_asked, held, ended_by: None }
    }

    /// Takes the signals that have come.
    pub(crate) fn take(&mut self) -> io::Result<()> {
        while let Some(signal) = self.descriptor.read_signal()? {
            self.taken(signal.ssi_signo as i32);
        }
        Ok(())
    }

    fn taken(&mut self, signal: i32) {
        match signal {
            libc::SIGUSR1 => self.counters_asked = true,
            libc::SIGUSR2 => self.held = !self.held,
            _ if std::mem::replace(&mut self.stop_asked, true) => self.ended_by = Some(signal),
            _ => self.stop.raise(),
        }
    }

    /// Whether counters were asked for since this was last asked.
    pub(crate) fn take_counters_asked(&mut self) -> bool {
        std::mem::take(&mut self.counters_asked)
    }

    /// Whether the guest was told to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop_asked
    }

    /// Whether the guest is held.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The signal that ends the guest, once there was a second.
    pub(crate) fn ended_by(&self) -> Option<i32> {
        self.ended_by
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Whether a quantum has ended since this was last asked.
pub(crate) fn take_quantum_over() -> bool {
    // The common case is no; a plain load keeps the cache line clean.
    QUANTUM_OVER.load(Ordering::Relaxed) && QUANTUM_OVER.swap(false, Ordering::Relaxed)
}

/// Forgets a quantum that has ended while the guest slept.
pub(crate) fn forget_quantum_over() {
    QUANTUM_OVER.store(false, Ordering::Relaxed);
}

extern "C" fn quantum_is_over(_: libc::c_int) {
    QUANTUM_OVER.store(true, Ordering::Relaxed);
}

extern "C" fn nothing(_: libc::c_int) {}

/// The handlers do next to nothing: they are there so that the signal interrupts the vCPU (no SA_RESTART).
fn install(signal: Signal, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers store to an atomic at most, which is async-signal-safe.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Runs `make`, and keeps the threads that it makes from taking the signals that interrupt the vCPU: they
/// are meant for the calling thread.
pub(crate) fn kept_for_this_thread<T>(make: impl FnOnce() -> T) -> io::Result<T> {
    let mut signals = SigSet::empty();
    signals.add(QUANTUM);
    signals.add(ARRIVAL);
    signals.thread_block()?;
    let made = make();
    signals.thread_unblock()?;
    Ok(made)
}
