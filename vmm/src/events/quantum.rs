//! The timer of quanta: it interrupts a guest that computes.

use denali_vcpu::Alarm;
use std::io;
use std::time::Duration;

/// The interval timer that sends SIGALRM at the end of each quantum.
pub(crate) struct QuantumTimer {
    quantum: Duration,
    /// How long a guest that has just woken runs until it is first looked after.
    first: Duration,
    /// The next time it is armed for a whole quantum at once.
    whole: bool,
    armed: bool,
    /// The guest's alarm that the timer was last brought forward for.
    alarm_ns: u64,
}

impl QuantumTimer {
    pub(crate) fn new(quantum: Duration, first: Duration) -> Self {
        Self { quantum, first: first.min(quantum), whole: false, armed: false, alarm_ns: 0 }
    }

    /// Makes sure that the timer runs. It runs on while the guest goes in and out, so that a busy guest
    /// costs no system call here. True: a quantum begins.
    pub(crate) fn arm(&mut self) -> io::Result<bool> {
        if self.armed {
            return Ok(false);
        }
        let whole = std::mem::take(&mut self.whole);
        set_interval_timer(if whole { self.quantum } else { self.first }, self.quantum)?;
        self.armed = true;
        Ok(true)
    }

    /// The guest that wakes will take its time, as its memory has just come back: it waits for the host, and
    /// does not compute.
    pub(crate) fn memory_came(&mut self) {
        self.whole = true;
    }

    /// Has the timer go off after as short a time as for a guest that has just woken.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        // An alarm that was set is to be set anew.
        self.alarm_ns = 0;
        set_interval_timer(self.first, self.quantum)
    }

    /// Has the timer go off for `alarm`, where that is before the quantum's end.
    pub(crate) fn arm_for(&mut self, alarm: Alarm) -> io::Result<()> {
        let left = Duration::from_nanos(alarm.left_ns);
        if left >= self.quantum || alarm.at_ns == self.alarm_ns {
            return Ok(());
        }
        self.alarm_ns = alarm.at_ns;
        self.armed = true;
        set_interval_timer(left.max(Duration::from_micros(1)), self.quantum)
    }

    pub(crate) fn disarm(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.armed) {
            self.alarm_ns = 0;
            set_interval_timer(Duration::ZERO, Duration::ZERO)?;
        }
        Ok(())
    }
}

/// The timer repeats: a tick that comes just before the vCPU is entered is made up for by the next.
fn set_interval_timer(first: Duration, interval: Duration) -> io::Result<()> {
    let value = |span: Duration| libc::timeval {
        tv_sec: span.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(span.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: value(interval), it_value: value(first) };
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
