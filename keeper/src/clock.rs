//! The host's clocks, and a timer on its boot time, which counts the time it was suspended.

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Nanoseconds since the host started.
pub(crate) fn boot_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Nanoseconds since 1970-01-01 UTC.
pub(crate) fn real_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// The boot time at which it is `real` in the other clock, as far as can be told now; the start of the
/// host, if that was before.
pub(crate) fn boot_of_real(real: u64) -> u64 {
    let (now_real, now_boot) = (real_ns(), boot_ns());
    match real.checked_sub(now_real) {
        Some(ahead) => now_boot.saturating_add(ahead),
        None => now_boot.saturating_sub(now_real - real),
    }
}

/// The time in the other clock when the boot time is `boot`, likewise.
pub(crate) fn real_of_boot(boot: u64) -> u64 {
    let (now_real, now_boot) = (real_ns(), boot_ns());
    match boot.checked_sub(now_boot) {
        Some(ahead) => now_real.saturating_add(ahead),
        None => now_real.saturating_sub(now_boot - boot),
    }
}

/// These clocks are there on any Linux; 0 stands for a time before all others.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Goes off at a moment of the boot time.
pub(crate) struct Timer {
    timer: TimerFd,
    at_ns: Option<u64>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { timer: TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?, at_ns: None })
    }

    /// Readable when it has gone off.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Sets when it goes off next; `None` = never.
    pub(crate) fn set(&mut self, at_ns: Option<u64>) -> io::Result<()> {
        if at_ns != self.at_ns {
            match at_ns {
                None => self.timer.unset()?,
                Some(at_ns) => {
                    // A timer for the moment 0 would be none.
                    let at = TimeSpec::from_duration(Duration::from_nanos(at_ns.max(1)));
                    let absolute = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                    self.timer.set(Expiration::OneShot(at), absolute)?;
                }
            }
            self.at_ns = at_ns;
        }
        Ok(())
    }

    /// It has gone off: it is set to nothing then.
    pub(crate) fn take(&mut self) {
        // That it was read too early is no harm.
        let _ = self.timer.wait();
        self.at_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_clock_are_told_in_the_other() {
        let (boot, real) = (boot_ns(), real_ns());
        assert!(boot > 0 && real > 0);
        for ahead in [0, 3_600_000_000_000] {
            let told = boot_of_real(real + ahead);
            assert!(told.abs_diff(boot + ahead) < 3_600_000_000, "{told}");
            let told = real_of_boot(boot + ahead);
            assert!(told.abs_diff(real + ahead) < 3_600_000_000, "{told}");
        }
        assert_eq!(boot_of_real(0), 0);
        assert_eq!(real_of_boot(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_timer_for_the_past_goes_off() {
        let mut timer = Timer::new().unwrap();
        timer.set(Some(0)).unwrap();
        let mut sources =
            [nix::poll::PollFd::new(timer.descriptor(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut sources, nix::poll::PollTimeout::NONE), Ok(1));
        timer.take();
        timer.set(None).unwrap();
    }
}
