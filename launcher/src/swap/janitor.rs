//! A swap region outlives its monitor where its guest can be parked, and only if it was: somebody must see
//! to that who outlives the monitor too.

use super::SwapSpace;
use super::region::Region;
use crate::error::{LaunchError, host};
use crate::take_over::close_range;
use denali_config::Swap;
use denali_swap::GuestId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, setsid};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

impl SwapSpace {
    /// Has a small process see to the end of this one, which is to become the guest's monitor: then the
    /// region is removed, if it has no state to go on from: the guest was never parked, or has ended since,
    /// of which its monitor leaves word in the region.
    ///
    /// Only for programs with one thread.
    ///
    /// # Errors
    /// When the host has no process for it.
    pub fn remove_unless_parked(&self, swap: &Swap) -> Result<(), LaunchError> {
        let failed = |error| host("cannot watch over a swap region", error);
        let monitor = pidfd_of_this_process().map_err(failed)?;
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|error| LaunchError::Host(format!("cannot open /dev/null: {error}")))?;
        // SAFETY: there is one thread, so that nothing is left half done in the child, which returns to
        // nobody.
        match unsafe { fork() }.map_err(failed)? {
            ForkResult::Parent { .. } => Ok(()),
            ForkResult::Child => {
                detach(&monitor, &null);
                wait_for(&monitor);
                remove(swap, self.id());
                // SAFETY: ends the process; what it shares with its parent is not touched.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

fn pidfd_of_this_process() -> Result<OwnedFd, Errno> {
    // SAFETY: the call touches no memory.
    let made = unsafe { libc::syscall(libc::SYS_pidfd_open, getpid().as_raw(), 0) };
    let descriptor = Errno::result(made)? as RawFd;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Has nothing to do with the monitor's terminal, signals and descriptors any more; those that the
/// region's lock depends on least of all.
fn detach(monitor: &OwnedFd, null: &File) {
    // What fails here leaves something of the monitor's with this process, which ends when it does.
    let _ = setsid();
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: to ignore a signal runs nothing of ours.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let _ = dup2_stdin(null).and_then(|()| dup2_stdout(null)).and_then(|()| dup2_stderr(null));
    close_range(3, monitor.as_raw_fd() - 1);
    close_range(monitor.as_raw_fd() + 1, RawFd::MAX);
}

fn wait_for(monitor: &OwnedFd) {
    let mut sources = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    while poll(&mut sources, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// Removes the region, if there is no state in it. One that is in use, damaged, or cannot be read, stays.
fn remove(swap: &Swap, id: GuestId) {
    if let Ok((region, label)) = Region::open(swap, id)
        && label.blank
    {
        // Nobody is left to be told.
        let _ = region.remove();
    }
}
