//! What the monitor's one thread waits for and is interrupted by: descriptors, signals, quanta.

use denali_interrupts::Line;
use denali_scheduler::QUANTUM_NS;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by the signal that ends a quantum.
static QUANTUM_OVER: AtomicBool = AtomicBool::new(false);

const QUANTUM: Duration = Duration::from_nanos(QUANTUM_NS);

/// Descriptors, signals and the quantum of one guest.
pub(crate) struct Events {
    epoll: OwnedFd,
    signals: SignalFd,
    stop: Line,
    stop_asked: bool,
    counters_asked: bool,
    ended_by: Option<i32>,
    quantum_armed: bool,
    slept_long: bool,
    slept: bool,
}

impl Events {
    /// Starts to take signals: the first SIGINT or SIGTERM raises `stop`, the second ends the guest.
    /// SIGUSR1 asks for counters.
    pub(crate) fn new(stop: Line) -> io::Result<Self> {
        let mut taken = SigSet::empty();
        taken.add(Signal::SIGINT);
        taken.add(Signal::SIGTERM);
        taken.add(Signal::SIGUSR1);
        taken.thread_block()?;
        let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        install_quantum_handler()?;
        // A console whose reader is gone ends the guest as it ends any program. (Rust programs start
        // with this signal ignored.)
        // SAFETY: the default action runs nothing of ours.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
        let events = Self {
            epoll: create_epoll()?,
            signals,
            stop,
            stop_asked: false,
            counters_asked: false,
            ended_by: None,
            quantum_armed: false,
            slept_long: true,
            slept: false,
        };
        events.watch(events.signals.as_raw_fd())?;
        Ok(events)
    }

    /// Wakes [`Events::wait`] when `source` becomes readable.
    pub(crate) fn watch(&self, source: RawFd) -> io::Result<()> {
        let event = epoll::Event::new(epoll::Events::EPOLLIN, source as u64);
        let add = epoll::ControlOptions::EPOLL_CTL_ADD;
        epoll::ctl(self.epoll.as_raw_fd(), add, source, event)
    }

    /// Makes sure that the guest is interrupted when its quantum ends. The timer runs on while the
    /// guest goes in and out, so that a busy guest costs no system call here.
    pub(crate) fn before_entry(&mut self) -> io::Result<()> {
        if QUANTUM_OVER.swap(false, Ordering::Relaxed) {
            self.take_signals()?;
        }
        if !self.quantum_armed {
            set_interval_timer(QUANTUM)?;
            self.quantum_armed = true;
        }
        Ok(())
    }

    /// Sleeps until a watched descriptor is readable, a signal comes, or for `timeout`.
    ///
    /// A guest that has slept long before is taken to do so again, and its quantum's timer is stopped
    /// first; one that sleeps for moments keeps it. So neither wakes for nothing more than once.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.slept_long {
            self.disarm()?;
        }
        if !std::mem::replace(&mut self.slept, true) {
            give_back_free_memory();
        }
        let before = Instant::now();
        let woken = wait_readable(self.epoll.as_raw_fd(), timeout)?;
        self.slept_long = before.elapsed() > QUANTUM;
        match woken {
            Woken::Interrupted => {
                QUANTUM_OVER.store(false, Ordering::Relaxed);
                self.disarm()?;
                self.take_signals()
            }
            Woken::By(source) if source == self.signals.as_raw_fd() => self.take_signals(),
            Woken::By(_) | Woken::TimedOut => Ok(()),
        }
    }

    /// Waits until `descriptor` takes bytes; false when the guest is to end instead.
    pub(crate) fn wait_writable(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<bool> {
        while self.ended_by.is_none() {
            let mut polled = [
                pollfd(descriptor.as_raw_fd(), libc::POLLOUT),
                pollfd(self.signals.as_raw_fd(), libc::POLLIN),
            ];
            // SAFETY: the array is valid for its two entries during the call.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
            if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(io::Error::last_os_error());
            }
            if ready > 0 && polled[1].revents != 0 {
                self.take_signals()?;
            }
            if ready > 0 && polled[0].revents != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether counters were asked for since this was last asked.
    pub(crate) fn take_counters_asked(&mut self) -> bool {
        std::mem::take(&mut self.counters_asked)
    }

    /// The signal that ends the guest, once there was a second.
    pub(crate) fn ended_by(&self) -> Option<i32> {
        self.ended_by
    }

    fn disarm(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.quantum_armed) {
            set_interval_timer(Duration::ZERO)?;
        }
        Ok(())
    }

    fn take_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            if signal.ssi_signo == Signal::SIGUSR1 as u32 {
                self.counters_asked = true;
            } else if std::mem::replace(&mut self.stop_asked, true) {
                self.ended_by = Some(signal.ssi_signo as i32);
            } else {
                self.stop.raise();
            }
        }
        Ok(())
    }
}

/// Gives the host back what the start of the guest needed and the guest's idle life does not.
fn give_back_free_memory() {
    // SAFETY: the C library releases pages that hold no allocation; no memory in use is touched.
    unsafe { libc::malloc_trim(0) };
}

enum Woken {
    TimedOut,
    Interrupted,
    By(RawFd),
}

fn create_epoll() -> io::Result<OwnedFd> {
    let descriptor = epoll::create(true)?;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn pollfd(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// `epoll_wait` with a timeout in nanoseconds, where the kernel has it (5.11), else in milliseconds.
fn wait_readable(epoll: RawFd, timeout: Option<Duration>) -> io::Result<Woken> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    });
    let limit_pointer = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the event and the time are valid during the call; there is no signal mask.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll,
            &raw mut event,
            1,
            limit_pointer,
            std::ptr::null::<libc::sigset_t>(),
            0,
        )
    };
    let error = io::Error::last_os_error();
    match ready {
        0 => Ok(Woken::TimedOut),
        1.. => Ok(Woken::By(event.u64 as RawFd)),
        _ if error.kind() == io::ErrorKind::Interrupted => Ok(Woken::Interrupted),
        _ if error.raw_os_error() == Some(libc::ENOSYS) => wait_milliseconds(epoll, timeout),
        _ => Err(error),
    }
}

fn wait_milliseconds(epoll: RawFd, timeout: Option<Duration>) -> io::Result<Woken> {
    let limit = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    let mut events = [epoll::Event::new(epoll::Events::empty(), 0)];
    match epoll::wait(epoll, limit, &mut events) {
        Ok(0) => Ok(Woken::TimedOut),
        Ok(_) => Ok(Woken::By({ events[0].data } as RawFd)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Woken::Interrupted),
        Err(error) => Err(error),
    }
}

extern "C" fn quantum_is_over(_: libc::c_int) {
    QUANTUM_OVER.store(true, Ordering::Relaxed);
}

/// The handler does next to nothing: it is there so that the signal interrupts the vCPU (no SA_RESTART).
fn install_quantum_handler() -> io::Result<()> {
    let handler = SigHandler::Handler(quantum_is_over);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic, which is async-signal-safe, and nothing else.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    Ok(())
}

/// The timer repeats: a tick that comes just before the vCPU is entered is made up for by the next.
fn set_interval_timer(interval: Duration) -> io::Result<()> {
    let interval = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(interval.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: the structure is valid during the call; the old value is not asked for.
    let done = unsafe {
        libc::syscall(
            libc::SYS_setitimer,
            libc::ITIMER_REAL,
            &raw const timer,
            std::ptr::null_mut::<libc::itimerval>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
