//! What a child inherits: certain descriptors, under certain numbers, and no others.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The first number behind the standard streams'.
pub(crate) const FIRST: RawFd = 3;

/// Descriptors that a child shall have from number [`FIRST`] on, in order, so that its table of
/// descriptors is small however many its parent has.
pub(crate) struct Inheritance {
    descriptors: Vec<OwnedFd>,
    /// For each of the child's numbers: where the descriptor is meanwhile that had it, or -1.
    aside: Vec<RawFd>,
}

impl Inheritance {
    pub(crate) fn new(descriptors: Vec<OwnedFd>) -> Self {
        let aside = vec![-1; descriptors.len()];
        Self { descriptors, aside }
    }

    /// The number behind the last of the child's.
    fn end(&self) -> RawFd {
        FIRST + self.descriptors.len() as RawFd
    }

    /// Gives the descriptors their numbers, open across exec; all others will be closed by it. For
    /// between fork and exec: it allocates nothing.
    pub(crate) fn arrange(&mut self) -> Result<(), Errno> {
        let end = self.end();
        for (number, aside) in (FIRST..end).zip(&mut self.aside) {
            *aside = set_aside(number, end)?;
        }
        for (number, descriptor) in (FIRST..end).zip(&self.descriptors) {
            let source = descriptor.as_raw_fd();
            let source = match usize::try_from(source - FIRST) {
                Ok(index) if source < end => self.aside[index],
                _ => source,
            };
            // SAFETY: what had the number has been set aside, and is put back before anybody uses it; the
            // source is another one, so that the copy is open across exec.
            Errno::result(unsafe { libc::dup2(source, number) })?;
        }
        close_on_exec(end)
    }

    /// Puts back what was set aside: exec failed, and who called fork needs its descriptors.
    pub(crate) fn restore(&mut self) {
        for (number, &aside) in (FIRST..).zip(&self.aside) {
            if aside >= 0 {
                // SAFETY: the number is given back what it was before; the child ends without having used
                // what it was meanwhile.
                unsafe { libc::dup3(aside, number, libc::O_CLOEXEC) };
            }
        }
    }
}

/// A copy of what is open as `number`, numbered `least` or more; -1 where there is nothing.
fn set_aside(number: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: the call fails on a number that is not open, and touches no memory.
    match Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, least) }) {
        Err(Errno::EBADF) => Ok(-1),
        other => other,
    }
}

/// Lets the descriptors stay open across exec under the numbers they have, and the standard streams; all
/// others are closed.
pub(crate) fn pass_on(descriptors: &[OwnedFd]) -> Result<(), Errno> {
    close_on_exec(FIRST)?;
    for descriptor in descriptors {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by exec, those included that this program has
/// itself inherited without knowing.
fn close_on_exec(first: RawFd) -> Result<(), Errno> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now; it only sets a flag on descriptors, and exec
    // is the next thing that happens.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Before Linux 5.11: one by one, as far as descriptors can go.
        Err(Errno::ENOSYS | Errno::EINVAL) => close_each_on_exec(first),
        Err(error) => Err(error),
    }
}

fn close_each_on_exec(first: RawFd) -> Result<(), Errno> {
    // SAFETY: `sysconf` reads a limit and touches no memory of ours.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    for number in first..i32::try_from(limit).unwrap_or(1024) {
        // SAFETY: the number is only used for F_SETFD, which fails on one that is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
