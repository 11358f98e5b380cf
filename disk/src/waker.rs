//! One descriptor that becomes readable when completions are to be collected.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// By how much later the timer may expire than it should: setting it anew costs more.
const TOLERANCE: Duration = Duration::from_micros(20);

/// An epoll of an eventfd, which the ring signals, and a timer, which serves when many completions are to
/// be collected together.
pub(crate) struct Waker {
    epoll: OwnedFd,
    signal: OwnedFd,
    timer: OwnedFd,
    /// When the timer expires, or has expired.
    expires: Option<Instant>,
    calls: u64,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the calls touch no memory; the descriptors they make are nobody else's.
        let (epoll, signal, timer) = unsafe {
            let signal = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            let clock = libc::CLOCK_MONOTONIC;
            let timer = libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK);
            (owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?, owned(signal)?, owned(timer)?)
        };
        for source in [&signal, &timer] {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            let (epoll, source) = (epoll.as_raw_fd(), source.as_raw_fd());
            // SAFETY: the structure is valid during the call.
            let done =
                unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, source, &raw mut event) };
            if done < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { epoll, signal, timer, expires: None, calls: 0 })
    }

    /// What whoever waits polls.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// What the ring signals.
    pub(crate) fn signal(&self) -> RawFd {
        self.signal.as_raw_fd()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Forgets signals so far.
    pub(crate) fn clear_signal(&mut self) {
        let mut count = 0_u64;
        self.calls += 1;
        // SAFETY: the buffer is eight bytes, as an eventfd wants. Without a signal the call fails, which
        // is as good.
        unsafe { libc::read(self.signal.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    /// Wakes after so many nanoseconds, or earlier where the timer runs already.
    pub(crate) fn set_timer(&mut self, time: u64) {
        let now = Instant::now();
        let wanted = now + Duration::from_nanos(time);
        if self.expires.is_none_or(|expires| expires <= now || expires > wanted + TOLERANCE) {
            self.time(time.max(1));
            self.expires = Some(wanted);
        }
    }

    /// Stops the timer; an expiry that nobody has seen is forgotten.
    pub(crate) fn stop_timer(&mut self) {
        if self.expires.take().is_some() {
            self.time(0);
        }
    }

    fn time(&mut self, time: u64) {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (time / 1_000_000_000) as libc::time_t,
            tv_nsec: (time % 1_000_000_000) as libc::c_long,
        };
        let timer = libc::itimerspec { it_interval: zero, it_value: value };
        let descriptor = self.timer.as_raw_fd();
        self.calls += 1;
        // SAFETY: the structure is valid during the call; the old value is not asked for. The call
        // fails for no valid time.
        unsafe { libc::timerfd_settime(descriptor, 0, &raw const timer, std::ptr::null_mut()) };
    }
}

/// Takes ownership of a descriptor that was just made, or the error in its place.
///
/// # Safety
/// The descriptor is nobody else's.
unsafe fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
