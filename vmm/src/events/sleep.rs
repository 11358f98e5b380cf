//! Sleeping until a descriptor is readable or a moment has come.

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// From here on a timer is set for a sleep's end. Below, `epoll_pwait2` takes one system call less, and is
/// late by up to a thousandth of the time, which the kernel uses to wake several sleepers at once. Nor does
/// it notice that the host was suspended meanwhile.
const LONG: Duration = Duration::from_millis(100);

/// Why a sleep ended.
pub(crate) enum Woken {
    /// The time had come.
    TimedOut,
    /// A signal's handler ran.
    Interrupted,
    /// This descriptor is readable.
    By(RawFd),
}

/// What a monitor sleeps on.
pub(crate) struct Sleeper {
    epoll: OwnedFd,
    timer: TimerFd,
    /// When the timer goes off, in ns of the host's boot time.
    set_to_ns: Option<u64>,
}

impl Sleeper {
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let sleeper = Self { epoll, timer, set_to_ns: None };
        sleeper.watch(sleeper.timer.as_fd().as_raw_fd())?;
        Ok(sleeper)
    }

    /// Ends sleeps when `source` becomes readable.
    pub(crate) fn watch(&self, source: RawFd) -> io::Result<()> {
        let event = epoll::Event::new(epoll::Events::EPOLLIN, source as u64);
        epoll::ctl(self.epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_ADD, source, event)
    }

    /// What becomes readable when a sleep would end.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Sleeps until something is readable, a signal comes, or for `timeout`, `None` = for ever.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<Woken> {
        let woken = match timeout {
            Some(timeout) if timeout >= LONG => {
                self.set_timer(timeout)?;
                wait_readable(self.epoll.as_raw_fd(), None)?
            }
            timeout => wait_readable(self.epoll.as_raw_fd(), timeout)?,
        };
        Ok(match woken {
            Woken::By(source) if source == self.timer.as_fd().as_raw_fd() => {
                self.set_to_ns = None;
                // Without blocking: it is readable, and what it says does not matter.
                let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
                Woken::TimedOut
            }
            other => other,
        })
    }

    /// Has the timer go off after `timeout` at the latest. One that goes off sooner is left as it is: the
    /// sleeper looks, and sleeps on. So a guest that sleeps again and again rarely costs the system call.
    fn set_timer(&mut self, timeout: Duration) -> io::Result<()> {
        let at_ns = boot_ns()?.saturating_add(timeout.as_nanos() as u64);
        if self.set_to_ns.is_some_and(|set_to_ns| set_to_ns <= at_ns) {
            return Ok(());
        }
        let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at_ns)));
        self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.set_to_ns = Some(at_ns);
        Ok(())
    }
}

/// The host's boot time, in which time asleep counts.
fn boot_ns() -> io::Result<u64> {
    let now = Duration::from(clock_gettime(Clock::CLOCK_BOOTTIME)?);
    Ok(now.as_nanos() as u64)
}

/// `epoll_wait` with a timeout in nanoseconds, where the kernel has it (5.11), else in milliseconds.
pub(super) fn wait_readable(epoll: RawFd, timeout: Option<Duration>) -> io::Result<Woken> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_end_in_time_and_never_early() {
        let mut sleeper = Sleeper::new().unwrap();
        for ms in [0, 1, 20, 120] {
            let (before, span) = (boot_ns().unwrap(), Duration::from_millis(ms));
            assert!(matches!(sleeper.sleep(Some(span)).unwrap(), Woken::TimedOut));
            assert!(boot_ns().unwrap() - before >= span.as_nanos() as u64, "{ms} ms");
        }
    }

    #[test]
    fn a_timer_that_is_set_serves_later_moments_and_not_earlier_ones() {
        let mut sleeper = Sleeper::new().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        sleeper.watch(reader.as_raw_fd()).unwrap();
        io::Write::write_all(&mut &writer, b"x").unwrap();
        let mut sleep = |seconds| {
            let woken = sleeper.sleep(Some(Duration::from_secs(seconds))).unwrap();
            assert!(matches!(woken, Woken::By(source) if source == reader.as_raw_fd()));
            sleeper.set_to_ns.unwrap()
        };
        let first = sleep(100);
        assert_eq!(sleep(200), first);
        assert!(sleep(50) < first);
    }
}
