//! The signals that a keeper takes.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::os::fd::{AsFd, BorrowedFd};
use std::{fmt, io};

/// SIGCHLD, and those that stop it, are blocked and read from a descriptor.
///
/// The programs that are started inherit that they are blocked: one that stops a monitor waits until the
/// monitor can take it.
pub(crate) struct Signals {
    descriptor: SignalFd,
}

/// What signals ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// To stop, so many times.
    pub(crate) stops: u32,
    /// To end, and leave guests as they are.
    pub(crate) leaves: bool,
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) process: u32,
    pub(crate) how: How,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Killed(i32),
    /// Nobody saw it: it was no child.
    Gone,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "with status {status}"),
            Self::Killed(signal) => write!(f, "by signal {signal}"),
            Self::Gone => f.write_str("in a way that nobody saw"),
        }
    }
}

impl Signals {
    /// Takes signals from here on.
    pub(crate) fn new() -> io::Result<Self> {
        let mut taken = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1] {
            taken.add(signal);
        }
        taken.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self { descriptor: SignalFd::with_flags(&taken, flags)? })
    }

    /// Readable when a signal has come.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Takes the signals that have come.
    pub(crate) fn take(&self) -> io::Result<Asked> {
        let mut asked = Asked::default();
        while let Some(signal) = self.descriptor.read_signal()? {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {}
                libc::SIGUSR1 => asked.leaves = true,
                _ => asked.stops += 1,
            }
        }
        Ok(asked)
    }
}

/// The next child that has ended and was not told of yet.
pub(crate) fn next_exit() -> Option<Exit> {
    loop {
        let exit = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, status)) => (process, How::Exited(status as u8)),
            Ok(WaitStatus::Signaled(process, signal, _)) => (process, How::Killed(signal as i32)),
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            // There are no children.
            Err(_) => return None,
        };
        return Some(Exit { process: exit.0.as_raw() as u32, how: exit.1 });
    }
}
