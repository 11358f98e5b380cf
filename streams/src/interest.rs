//! What a back end wants to be woken for, as one descriptor that is readable when there is something to do.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What of a source wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing.
    Not,
    /// What is asked for, and that the other end is gone.
    For {
        /// It can be read.
        readable: bool,
        /// It can be written.
        writable: bool,
    },
}

impl Watch {
    /// Watches if `wanted`.
    pub(crate) fn when(wanted: bool, readable: bool, writable: bool) -> Self {
        if wanted { Self::For { readable, writable } } else { Self::Not }
    }
}

/// An epoll descriptor with a few sources. One that nobody can serve at the moment is taken out, so that it
/// wakes nobody.
#[derive(Debug)]
pub(crate) struct Interest {
    epoll: OwnedFd,
    /// The sources, and what is wanted of each.
    watched: Vec<(RawFd, Watch)>,
}

impl Interest {
    /// Interest in nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(true)?;
        // SAFETY: the descriptor was made by the call above and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self { epoll, watched: Vec::new() })
    }

    /// Wakes as `watch` says of `source`. Regular files wake nobody: they are ready whenever someone looks.
    pub(crate) fn set(&mut self, source: RawFd, watch: Watch) {
        let position = self.watched.iter().position(|&(other, _)| other == source);
        let before = position.map_or(Watch::Not, |at| self.watched[at].1);
        if watch == before {
            return;
        }
        let change = match (before, watch) {
            (_, Watch::Not) => epoll::ControlOptions::EPOLL_CTL_DEL,
            (Watch::Not, _) => epoll::ControlOptions::EPOLL_CTL_ADD,
            _ => epoll::ControlOptions::EPOLL_CTL_MOD,
        };
        let mut wanted = epoll::Events::empty();
        if let Watch::For { readable, writable } = watch {
            wanted.set(epoll::Events::EPOLLIN, readable);
            wanted.set(epoll::Events::EPOLLOUT, writable);
        }
        let event = epoll::Event::new(wanted, 0);
        // It fails for files that are always ready, and for want of kernel memory; then it is tried again
        // at the next service.
        if epoll::ctl(self.epoll.as_raw_fd(), change, source, event).is_err() {
            return;
        }
        match position {
            Some(at) if watch == Watch::Not => drop(self.watched.swap_remove(at)),
            Some(at) => self.watched[at].1 = watch,
            None => self.watched.push((source, watch)),
        }
    }
}

impl AsRawFd for Interest {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}
