//! The watcher: a thread that interrupts a guest which has computed for long when something arrives for it.
//!
//! It exists only while there is such a guest. The vCPU's thread is in the guest and cannot look; the watcher
//! waits on the same events, lets them gather as the [`Moderator`] says, and sends a signal, unless the guest
//! has come out by itself meanwhile. It touches nothing of the guest's.

use super::signals::{self, ARRIVAL};
use super::sleep::{Woken, wait_readable};
use denali_interrupts::{Coalescing, Moderator};
use nix::unistd::{getpid, gettid};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long a watcher that is not needed stays, in case it is needed again.
const STAY: Duration = Duration::from_millis(50);

/// How long a guest that was interrupted is given to come out, before it is interrupted again: a signal that
/// comes just before the vCPU is entered is lost. Doubles each time.
const AGAIN_AFTER: Duration = Duration::from_micros(50);

/// Bytes of its stack.
const STACK: usize = 32 << 10;

/// Arrivals are watched for.
const WATCHING: u8 = 0;
/// They are not, because the guest does not compute.
const PAUSED: u8 = 1;
/// The thread has ended, or is about to.
const GONE: u8 = 2;

/// What both threads see.
struct Shared {
    state: AtomicU8,
    /// Times the vCPU's thread began to look after everything.
    looks: AtomicU64,
    /// The watcher's epoll, whose one source is the monitor's.
    epoll: OwnedFd,
    /// The monitor's epoll.
    source: RawFd,
}

/// The vCPU thread's side: has arrivals watched for while the guest computes.
pub(crate) struct Watcher {
    coalescing: Coalescing,
    source: RawFd,
    shared: Option<Arc<Shared>>,
}

impl Watcher {
    /// Nothing is watched yet. `source` is the monitor's epoll, which stays open.
    pub(crate) fn new(coalescing: Coalescing, source: RawFd) -> Self {
        // A thread that allocates next to nothing needs no heap of its own, which would be mapped for good.
        // SAFETY: the call sets a number of the C library's.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        Self { coalescing, source, shared: None }
    }

    /// The guest computes: arrivals are watched for from here on.
    ///
    /// # Errors
    /// When the host has no room for another descriptor or thread; nothing is watched then.
    pub(crate) fn watch(&mut self) -> io::Result<()> {
        if let Some(shared) = &self.shared {
            match shared.change(PAUSED, WATCHING) {
                WATCHING => return Ok(()),
                PAUSED => return shared.watch_source(true),
                _ => {}
            }
        }
        let shared = Arc::new(Shared::new(self.source)?);
        let thread = Thread {
            shared: shared.clone(),
            moderator: Moderator::new(self.coalescing),
            vcpu: (getpid().as_raw(), gettid().as_raw()),
            began: Instant::now(),
        };
        let start = || Builder::new().stack_size(STACK).spawn(|| thread.run());
        signals::kept_for_this_thread(start)??;
        self.shared = Some(shared);
        Ok(())
    }

    /// The guest computes no more.
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        match &self.shared {
            Some(shared) => match shared.change(WATCHING, PAUSED) {
                WATCHING => shared.watch_source(false),
                PAUSED => Ok(()),
                _ => {
                    self.shared = None;
                    Ok(())
                }
            },
            None => Ok(()),
        }
    }

    /// The vCPU's thread begins to look after everything: what has arrived before needs no interruption.
    pub(crate) fn looks(&self) {
        if let Some(shared) = &self.shared {
            shared.looks.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Shared {
    fn new(source: RawFd) -> io::Result<Self> {
        let epoll = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let event = epoll::Event::new(edges(), 0);
        epoll::ctl(epoll.as_raw_fd(), epoll::ControlOptions::EPOLL_CTL_ADD, source, event)?;
        let (state, looks) = (AtomicU8::new(WATCHING), AtomicU64::new(0));
        Ok(Self { state, looks, epoll, source })
    }

    /// Changes the state if it is `from`; gives what it was.
    fn change(&self, from: u8, to: u8) -> u8 {
        let changed = self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        changed.unwrap_or_else(|other| other)
    }

    /// Turns waking by the source on or off, so that a guest that sleeps wakes no watcher.
    fn watch_source(&self, on: bool) -> io::Result<()> {
        let events = if on { edges() } else { epoll::Events::empty() };
        let modify = epoll::ControlOptions::EPOLL_CTL_MOD;
        epoll::ctl(self.epoll.as_raw_fd(), modify, self.source, epoll::Event::new(events, 0))
    }

    /// Waits for an arrival, at most for `timeout`; true if there was one.
    fn arrival(&self, timeout: Duration) -> bool {
        matches!(wait_readable(self.epoll.as_raw_fd(), Some(timeout)), Ok(Woken::By(_)))
    }
}

/// Each arrival is told once: what stays readable is the vCPU thread's concern.
fn edges() -> epoll::Events {
    epoll::Events::EPOLLIN | epoll::Events::EPOLLET
}

/// The watcher's own side.
struct Thread {
    shared: Arc<Shared>,
    moderator: Moderator,
    /// Process and thread that run the vCPU.
    vcpu: (libc::pid_t, libc::pid_t),
    began: Instant,
}

impl Thread {
    fn run(mut self) {
        loop {
            if self.shared.arrival(STAY) {
                self.gather_and_interrupt();
            } else if self.shared.change(PAUSED, GONE) == PAUSED {
                return;
            }
        }
    }

    /// Something has arrived: lets more gather, then interrupts the guest unless it looks by itself.
    fn gather_and_interrupt(&mut self) {
        let mut looks = self.looks();
        let mut now_ns = self.now_ns();
        let mut due_ns = self.moderator.arrived(now_ns);
        while self.looks() == looks && now_ns < due_ns {
            let another = self.shared.arrival(Duration::from_nanos(due_ns - now_ns));
            now_ns = self.now_ns();
            if another {
                // A look that began before may have missed it.
                looks = self.looks();
                due_ns = self.moderator.arrived(now_ns);
            }
        }
        self.interrupt_until_it_looks(looks);
        self.moderator.delivered(self.now_ns(), 0);
    }

    fn interrupt_until_it_looks(&self, looks: u64) {
        let mut pause = AGAIN_AFTER;
        while self.looks() == looks && self.shared.state.load(Ordering::SeqCst) == WATCHING {
            let (process, thread) = self.vcpu;
            // SAFETY: the call sends a signal to a thread of this process, whose handler does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, ARRIVAL as libc::c_int) };
            std::thread::sleep(pause);
            pause = (pause * 2).min(STAY);
        }
    }

    fn looks(&self) -> u64 {
        self.shared.looks.load(Ordering::SeqCst)
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}
