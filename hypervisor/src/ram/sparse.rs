//! Where a sparse file has data.

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

/// The runs of bytes of `range` that the file has, in order; the rest are holes, and whatever lies behind
/// its end. It moves the file's position.
///
/// # Errors
/// When the file's system cannot tell.
pub(super) fn data_runs(file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match lseek(file, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // No more data.
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= range.end {
            break;
        }
        let end = lseek(file, start as i64, Whence::SeekHole)? as u64;
        if start < at || end <= start {
            return Err(io::Error::other("the file changes while it is looked at"));
        }
        runs.push(start..end.min(range.end));
        at = end;
    }
    Ok(runs)
}
