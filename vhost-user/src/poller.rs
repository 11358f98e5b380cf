//! The one descriptor by which the monitor is woken for a device, and what it was woken for.

use crate::error::Failure;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// What a descriptor means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Source {
    /// The connection has something to read, or has ended.
    Channel,
    /// The back end has returned requests.
    Call,
    /// A new connection may be there.
    Reconnect,
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub channel: bool,
    pub call: bool,
}

/// An epoll descriptor that is itself readable while there is something to do.
#[derive(Debug)]
pub(crate) struct Poller(Epoll);

impl Poller {
    /// A poller that waits for nothing yet.
    ///
    /// # Errors
    /// When the host refuses another descriptor.
    pub(crate) fn new() -> Result<Self, Failure> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self).map_err(Failure::Host)
    }

    /// Waits for `source`. It is forgotten when its last descriptor is closed.
    ///
    /// A call is seen at each write and never read: the back end has the same eventfd, and could make a
    /// read of it wait.
    ///
    /// # Errors
    /// When the host refuses.
    pub(crate) fn watch(&self, source: Source, descriptor: BorrowedFd<'_>) -> Result<(), Failure> {
        let flags = match source {
            Source::Channel => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            Source::Call => EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
            Source::Reconnect => EpollFlags::EPOLLIN,
        };
        self.0.add(descriptor, EpollEvent::new(flags, source as u64)).map_err(Failure::Host)
    }

    /// Stops to wait for `descriptor`, which may not be waited for.
    pub(crate) fn forget(&self, descriptor: BorrowedFd<'_>) {
        let _ = self.0.delete(descriptor);
    }

    /// What has happened; does not wait.
    pub(crate) fn look(&self) -> Seen {
        let mut events = [EpollEvent::empty(); 4];
        let count = loop {
            match self.0.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(_) => break 0,
            }
        };
        let mut seen = Seen::default();
        for event in &events[..count] {
            seen.channel |= event.data() == Source::Channel as u64;
            seen.call |= event.data() == Source::Call as u64;
        }
        seen
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_fd().as_raw_fd()
    }
}
