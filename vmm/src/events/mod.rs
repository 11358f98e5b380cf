//! What the monitor's one thread waits for and is interrupted by: descriptors, signals, quanta.

mod precedence;
mod quantum;
mod signals;
mod sleep;
mod watcher;

pub(crate) use precedence::Share;
pub(crate) use signals::ARRIVAL;

use denali_interrupts::{Coalescing, LONGEST_NS, Line, SHORTEST_NS};
use denali_launcher::spec::CpuSpec;
use denali_scheduler::{Ended, Turn};
use denali_vcpu::Alarm;
use quantum::QuantumTimer;
use signals::{Signals, Taken};
use sleep::{Sleeper, Woken};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};
use watcher::Watcher;

/// How much earlier or later than asked the kernel may end a short sleep, in ns. (A program's default is
/// 50,000.)
const TIMER_SLACK_NS: u64 = 1_000;

/// The least and most a guest that has just woken runs before it is first looked after, in ns.
const FIRST_LOOK_NS: (u64, u64) = (200_000, 500_000);

/// Descriptors, signals and quanta of one guest.
pub(crate) struct Events {
    sleeper: Sleeper,
    signals: Signals,
    quantum: QuantumTimer,
    turn: Turn,
    share: Share,
    watcher: Watcher,
    slept_long: bool,
    /// Where requests of a keeper or a person come from.
    control: Option<RawFd>,
    came: Came,
}

/// What has come and is not yet looked after.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    /// Something for a device.
    for_guest: bool,
    /// A request.
    for_control: bool,
}

/// What events come through, whatever guest they are for.
pub(crate) struct Sources {
    sleeper: Sleeper,
    signals: Taken,
}

impl Sources {
    /// Starts to take signals (see [`Taken::new`]).
    pub(crate) fn new() -> io::Result<Self> {
        nix::sys::prctl::set_timerslack(TIMER_SLACK_NS)?;
        let (sleeper, signals) = (Sleeper::new()?, Taken::new()?);
        sleeper.watch(signals.as_fd().as_raw_fd())?;
        Ok(Self { sleeper, signals })
    }

    /// Readable when a signal has come.
    pub(crate) fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Events {
    /// Gives signals their meaning (see [`Signals::new`]) and starts to measure quanta.
    pub(crate) fn new(sources: Sources, stop: Line, cpu: &CpuSpec, share: Share) -> Self {
        let Sources { sleeper, signals } = sources;
        let signals = Signals::new(signals, stop);
        let coalescing = coalescing(cpu);
        let first_ns = coalescing.longest_ns().clamp(FIRST_LOOK_NS.0, FIRST_LOOK_NS.1);
        let (quantum, first) =
            (Duration::from_nanos(cpu.quantum_ns), Duration::from_nanos(first_ns));
        Self {
            quantum: QuantumTimer::new(quantum, first),
            turn: Turn::new(cpu.quantum_ns),
            watcher: Watcher::new(coalescing, sleeper.descriptor()),
            share,
            sleeper,
            signals,
            slept_long: true,
            control: None,
            came: Came::default(),
        }
    }

    /// Wakes [`Events::wait`] when `source` becomes readable.
    pub(crate) fn watch(&self, source: RawFd) -> io::Result<()> {
        self.sleeper.watch(source)
    }

    /// Wakes [`Events::wait`] when `source` has a request; that is nothing for the guest.
    pub(crate) fn watch_control(&mut self, source: RawFd) -> io::Result<()> {
        self.control = Some(source);
        self.sleeper.watch(source)
    }

    /// Whether there may be a request.
    pub(crate) fn take_request_came(&mut self) -> bool {
        std::mem::take(&mut self.came.for_control)
    }

    /// Whether something has come for a device since [`Events::looks`].
    pub(crate) fn has_come(&self) -> bool {
        self.came.for_guest
    }

    /// What signals have asked for.
    pub(crate) fn signals(&mut self) -> &mut Signals {
        &mut self.signals
    }

    /// The signal that ends the guest, once there was a second.
    pub(crate) fn ended_by(&self) -> Option<i32> {
        self.signals.ended_by()
    }

    /// Whether the guest was told to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.signals.is_stopping()
    }

    /// Whether the guest is held.
    pub(crate) fn is_held(&self) -> bool {
        self.signals.is_held()
    }

    /// The guest's memory has just come back.
    pub(crate) fn memory_came(&mut self) {
        self.quantum.memory_came();
    }

    /// All that has arrived is looked after from here on.
    pub(crate) fn looks(&mut self) {
        self.came.for_guest = false;
        self.watcher.looks();
    }

    /// Makes sure that the guest is interrupted when its quantum ends, or for `alarm`.
    pub(crate) fn before_entry(&mut self, alarm: Option<Alarm>) -> io::Result<()> {
        if signals::take_quantum_over() {
            self.end_quantum()?;
        }
        self.turn.enters();
        if self.quantum.arm()? {
            self.turn.begins();
        }
        match alarm {
            Some(alarm) => self.quantum.arm_for(alarm),
            None => Ok(()),
        }
    }

    fn end_quantum(&mut self) -> io::Result<()> {
        self.signals.take()?;
        self.came.for_control = self.control.is_some();
        let ended = self.turn.quantum_ended(self.share.used_ns());
        if ended.precedence_changed {
            self.share.set(self.turn.precedence());
        }
        if ended.look_again {
            self.quantum.look_again()?;
        }
        match ended {
            // A host that has no room for a thread costs the guest nothing but time: the next tick looks.
            Ended { computed_through: true, .. } => drop(self.watcher.watch()),
            Ended { comes_out_often: true, .. } => self.watcher.pause()?,
            _ => {}
        }
        Ok(())
    }

    /// Looks at descriptors and signals without waiting.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let woken = self.sleeper.sleep(Some(Duration::ZERO))?;
        self.woken(&woken)
    }

    /// Sleeps until a watched descriptor is readable, a signal comes, or for `timeout`.
    ///
    /// A guest that has slept long before is taken to do so again, and its quantum's timer is stopped
    /// first; one that sleeps for moments keeps it. So neither wakes for nothing more than once.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.slept_long {
            self.quantum.disarm()?;
        }
        self.watcher.pause()?;
        let before = Instant::now();
        let woken = self.sleeper.sleep(timeout)?;
        let slept_ns = before.elapsed().as_nanos() as u64;
        self.slept_long = slept_ns > self.turn.quantum_ns();
        if self.turn.slept(slept_ns) {
            self.share.set(self.turn.precedence());
        }
        if matches!(woken, Woken::Interrupted) {
            signals::forget_quantum_over();
            self.quantum.disarm()?;
        }
        self.woken(&woken)
    }

    fn woken(&mut self, woken: &Woken) -> io::Result<()> {
        match woken {
            Woken::Interrupted => self.signals.take(),
            Woken::By(source) if *source == self.signals.as_raw_fd() => self.signals.take(),
            Woken::By(source) => {
                let is_request = self.control == Some(*source);
                self.came.for_control |= is_request;
                self.came.for_guest |= !is_request;
                Ok(())
            }
            Woken::TimedOut => Ok(()),
        }
    }

    /// Sleeps until signals or requests have come, and takes the signals.
    pub(crate) fn wait_signals(&mut self) -> io::Result<()> {
        self.quantum.disarm()?;
        self.watcher.pause()?;
        // A descriptor of -1 is passed over.
        let control = pollfd(self.control.unwrap_or(-1), libc::POLLIN);
        let mut polled = [pollfd(self.signals.as_raw_fd(), libc::POLLIN), control];
        poll(&mut polled)?;
        self.came.for_control |= polled[1].revents != 0;
        self.signals.take()
    }

    /// Waits until `descriptor` takes bytes; false when the guest is to end instead.
    pub(crate) fn wait_writable(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<bool> {
        while self.ended_by().is_none() {
            let mut polled = [
                pollfd(descriptor.as_raw_fd(), libc::POLLOUT),
                pollfd(self.signals.as_raw_fd(), libc::POLLIN),
            ];
            poll(&mut polled)?;
            if polled[1].revents != 0 {
                self.signals.take()?;
            }
            if polled[0].revents != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How interrupts are gathered for a guest that computes.
fn coalescing(cpu: &CpuSpec) -> Coalescing {
    match cpu.window_ns {
        None => Coalescing::Adaptive { shortest_ns: SHORTEST_NS, longest_ns: LONGEST_NS },
        Some(0) => Coalescing::Off,
        Some(window_ns) => Coalescing::Fixed { window_ns, count: cpu.count },
    }
}

fn pollfd(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits for what is asked of each descriptor; interrupted, it leaves all as not ready.
fn poll(polled: &mut [libc::pollfd]) -> io::Result<()> {
    // SAFETY: the slice is valid for its entries during the call.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    let error = io::Error::last_os_error();
    match ready {
        0.. => Ok(()),
        _ if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
