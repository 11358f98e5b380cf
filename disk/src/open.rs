//! Opens the file of a disk, and locks it for as long as anyone has the descriptor.

use crate::error::OpenError;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock is waited for: the kernel lets go of the files of an io_uring only some time after the
/// process that had them has ended.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How a disk's file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Only for reading; any number of guests may do so at a time.
    pub read_only: bool,
    /// Past the host's page cache (`O_DIRECT`).
    pub direct: bool,
}

/// Opens `path` as a disk. A disk that is written is locked for one user, one that is only read for users
/// that read. The lock (`flock`) goes with the descriptor, into whatever process inherits it.
///
/// # Errors
/// When it cannot be opened so, is not a file or block device, has an odd size, or is in use.
pub fn open(path: &Path, access: Access) -> Result<OwnedFd, OpenError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(!access.read_only)
        .custom_flags(if access.direct { libc::O_DIRECT } else { 0 } | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) if access.direct => OpenError::Direct,
            _ => OpenError::Open(error),
        })?;
    let kind = file.metadata().map_err(OpenError::Examine)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenError::Kind);
    }
    // Pipes would have blocked the open; disks are read and written as ever.
    clear_nonblocking(&file).map_err(OpenError::Examine)?;
    let size = file.seek(SeekFrom::End(0)).map_err(OpenError::Examine)?;
    if size == 0 || !size.is_multiple_of(512) {
        return Err(OpenError::Size(size));
    }
    lock_as(file.as_fd(), access.read_only)?;
    Ok(file.into())
}

/// Locks an open file for one user, as [`open`] does for a disk that is written.
///
/// # Errors
/// When it is in use or cannot be locked.
pub fn lock(file: BorrowedFd<'_>) -> Result<(), OpenError> {
    lock_as(file, false)
}

fn lock_as(file: BorrowedFd<'_>, read_only: bool) -> Result<(), OpenError> {
    let (kind, advice) = if read_only {
        (libc::LOCK_SH, "")
    } else {
        (libc::LOCK_EX, "; set \"read_only\" for all of them, or give each a copy")
    };
    let start = Instant::now();
    loop {
        // SAFETY: the descriptor is open; the call touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock if start.elapsed() < LOCK_PATIENCE => sleep(LOCK_PAUSE),
            io::ErrorKind::WouldBlock => return Err(OpenError::InUse(advice)),
            _ => return Err(OpenError::Lock(error)),
        }
    }
}

fn clear_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; these calls touch no memory.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) };
    if flags < 0 || done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
