//! Waiting for sockets, to the microsecond.

use anyhow::{Context, Result};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

/// Events that are taken at a time.
const EVENTS: usize = 256;

/// Something happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    /// The number that it was added with.
    pub(super) number: u64,
    /// There may be something to read, be it an end or an error.
    pub(super) readable: bool,
}

/// Sockets that are watched, each for what changes.
pub(super) struct Poll {
    epoll: File,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(true).context("cannot make an epoll")?;
        // SAFETY: the descriptor was made above and has no other owner.
        let epoll = unsafe { File::from_raw_fd(epoll) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Watches a socket until it is closed.
    pub(super) fn add(&self, socket: &impl AsRawFd, number: u64) -> io::Result<()> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags as u32, u64: number };
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open, and the event is ours and not kept.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until something happens, and no longer than this; how many things did. They are asked for by
    /// [`Self::event`].
    pub(super) fn wait(&mut self, longest: Duration) -> Result<usize> {
        let longest = libc::timespec {
            tv_sec: longest.as_secs().min(3600) as i64,
            tv_nsec: longest.subsec_nanos().into(),
        };
        // SAFETY: the kernel writes as many events as there is room for, and reads the time; there is no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as i32,
                &raw const longest,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(io::Error::last_os_error()).context("cannot wait for connections"),
        }
    }

    /// One of the things that happened last.
    pub(super) fn event(&self, place: usize) -> Happened {
        let libc::epoll_event { events, u64: number } = self.events[place];
        Happened { number, readable: events & !(libc::EPOLLOUT as u32) != 0 }
    }
}
