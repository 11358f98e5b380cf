//! `/dev/userfaultfd`, through which a monitor hears of the pages its guest misses.

use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;

/// Where it is.
pub(super) const DEVICE: &str = "/dev/userfaultfd";

/// Opens it.
///
/// # Errors
/// Why it cannot be had.
pub(super) fn open() -> Result<OwnedFd, &'static str> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open_file(DEVICE, flags, Mode::empty()).map_err(|error| error.desc())
}
