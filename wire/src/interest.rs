//! What a wire wants to be woken for, as one descriptor that is readable when there is something to do.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An epoll descriptor with at most one source.
///
/// A source that nobody can serve at the moment is taken out, so that it wakes nobody: neither with
/// frames that find no buffer, nor with an error that stays.
#[derive(Debug)]
pub(crate) struct Interest {
    epoll: OwnedFd,
    source: RawFd,
    wanted: epoll::Events,
}

impl Interest {
    /// Interest in nothing yet.
    pub(crate) fn new(source: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self { epoll, source: source.as_raw_fd(), wanted: epoll::Events::empty() })
    }

    /// Wakes for frames that can be read, for room to write, or for neither.
    pub(crate) fn set(&mut self, readable: bool, writable: bool) {
        let mut wanted = epoll::Events::empty();
        wanted.set(epoll::Events::EPOLLIN, readable);
        wanted.set(epoll::Events::EPOLLOUT, writable);
        if wanted == self.wanted {
            return;
        }
        let change = if wanted.is_empty() {
            epoll::ControlOptions::EPOLL_CTL_DEL
        } else if self.wanted.is_empty() {
            epoll::ControlOptions::EPOLL_CTL_ADD
        } else {
            epoll::ControlOptions::EPOLL_CTL_MOD
        };
        let event = epoll::Event::new(wanted, 0);
        // The source is open and watched as `self.wanted` says, so this fails for want of kernel
        // memory only; then it is tried again at the next service.
        if epoll::ctl(self.epoll.as_raw_fd(), change, self.source, event).is_ok() {
            self.wanted = wanted;
        }
    }
}

impl AsRawFd for Interest {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}
