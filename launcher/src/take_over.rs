//! Turns the calling program into the place where a monitor runs: nothing is left open, and nothing is
//! left to read, that is not the guest's.

use crate::prepare::Launch;
use crate::spec::MachineSpec;
use nix::errno::Errno;
use std::ffi::c_char;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// The first descriptor behind the standard streams.
const FIRST: RawFd = 3;

unsafe extern "C" {
    /// The C library's list of environment strings, ended by a null pointer.
    static mut environ: *mut *mut c_char;
}

impl Launch {
    /// Closes every descriptor but the standard streams and the machine's, wipes the environment, and
    /// gives the machine away to be run in this process.
    ///
    /// Only for programs with one thread, that use no descriptor of their own afterwards.
    #[must_use]
    pub fn take_over(self) -> MachineSpec {
        let mut kept: Vec<RawFd> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        kept.sort_unstable();
        let mut next = FIRST;
        for descriptor in kept {
            close_range(next, descriptor - 1);
            next = descriptor + 1;
        }
        close_range(next, RawFd::MAX);
        wipe_environment();
        for descriptor in self.descriptors {
            // Owned from here on by whoever reads its number in the machine's description.
            let _ = descriptor.into_raw_fd();
        }
        self.spec
    }
}

/// Closes the descriptors from `first` to `last`, both included.
pub(crate) fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: the caller's program uses none of these descriptors any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result < 0 && Errno::last() == Errno::ENOSYS {
        // Before Linux 5.9: one by one, as far as descriptors can go.
        // SAFETY: `sysconf` reads a limit and touches no memory of ours.
        let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
        for descriptor in first..last.min(RawFd::try_from(limit).unwrap_or(1024)) {
            // SAFETY: as above.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Overwrites the environment, which may hold its user's secrets: a monitor needs none of it.
fn wipe_environment() {
    // SAFETY: there is one thread, so nobody reads or changes the environment meanwhile. The list and
    // its strings are writable memory of the process, made at its start or by the C library.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let length = libc::strlen(*entry);
            std::ptr::write_bytes(*entry, 0, length);
            entry = entry.add(1);
        }
        if !environ.is_null() {
            *environ = std::ptr::null_mut();
        }
    }
}
