//! What a pager's thread and its owner both see.

use crate::counters::Counters;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Shared between the two.
pub(crate) struct Shared {
    /// An eventfd that becomes readable when the thread is to stop.
    wake: OwnedFd,
    stopping: AtomicBool,
    done: AtomicBool,
    /// Most pages that the guest may have; `usize::MAX` = all that there are.
    growth: AtomicUsize,
    /// The guest has wanted more, or has more.
    full: AtomicBool,
    /// The thread that executes the guest is inside it.
    entered: AtomicBool,
    counters: Mutex<Counters>,
}

impl Shared {
    pub(crate) fn new(growth: Option<usize>) -> io::Result<Self> {
        // SAFETY: the call touches no memory.
        let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if wake < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor, and nobody else knows of it.
        let wake = unsafe { OwnedFd::from_raw_fd(wake) };
        let no = || AtomicBool::new(false);
        Ok(Self {
            wake,
            stopping: no(),
            done: no(),
            growth: AtomicUsize::new(growth.unwrap_or(usize::MAX)),
            full: no(),
            entered: no(),
            counters: Mutex::default(),
        })
    }

    /// The thread is to stop, soon.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let one = 1_u64;
        // SAFETY: the buffer is eight bytes, as an eventfd wants. It cannot be full after one call.
        unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Everything is in memory.
    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Most pages that the guest may have.
    pub(crate) fn growth(&self) -> usize {
        self.growth.load(Ordering::SeqCst)
    }

    /// The guest may have all pages that there are.
    pub(crate) fn lift(&self) {
        self.growth.store(usize::MAX, Ordering::SeqCst);
        self.full.store(false, Ordering::SeqCst);
    }

    /// The guest is to have no more pages.
    pub(crate) fn fill_up(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    pub(crate) fn enter(&self, inside: bool) {
        self.entered.store(inside, Ordering::SeqCst);
    }

    pub(crate) fn is_entered(&self) -> bool {
        self.entered.load(Ordering::SeqCst)
    }

    pub(crate) fn publish(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    pub(crate) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `faults` can be read, or the thread is to stop, or the time is over, or for no reason.
    pub(crate) fn wait(&self, faults: RawFd, timeout: Option<Duration>) {
        let source = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut sources = [source(faults), source(self.wake.as_raw_fd())];
        // In whole milliseconds, and not before the time is over.
        let timeout = timeout
            .map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        // SAFETY: the list has two entries, and stays valid during the call.
        unsafe { libc::poll(sources.as_mut_ptr(), 2, timeout) };
    }
}
