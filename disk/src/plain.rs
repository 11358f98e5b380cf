//! Plain system calls, one after the other: for hosts without io_uring.

use crate::engine::Call;
use crate::files::Files;
use crate::piece::Action;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;

/// Makes each call at once and keeps its result.
pub(crate) struct Plain {
    files: Files,
    results: VecDeque<(u32, i32)>,
    calls: u64,
}

impl Plain {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, results: VecDeque::new(), calls: 0 }
    }

    /// Makes a call.
    ///
    /// # Safety
    /// The call's memory is mapped, and writable for a read.
    pub(crate) unsafe fn make(&mut self, call: Call<'_>) {
        let file = self.files[call.file].as_raw_fd();
        let (offset, length) = (call.offset as libc::off_t, call.length as libc::off_t);
        let list = call.slices.as_ptr().cast::<libc::iovec>();
        let count = call.slices.len() as libc::c_int;
        self.calls += 1;
        let result = match call.action {
            // SAFETY: the slices are laid out as `iovec` and are mapped, which the caller promises.
            Action::Read => outcome(|| unsafe { libc::preadv(file, list, count, offset) }),
            Action::Write { durable } => {
                // SAFETY: as above.
                let written = outcome(|| unsafe { libc::pwritev(file, list, count, offset) });
                if durable && written >= 0 { and_sync(file, written) } else { written }
            }
            Action::Sync => and_sync(file, 0),
            Action::Punch => fallocate(file, libc::FALLOC_FL_PUNCH_HOLE, offset, length),
            Action::Zero => fallocate(file, libc::FALLOC_FL_ZERO_RANGE, offset, length),
        };
        self.results.push_back((call.token, result));
    }

    pub(crate) fn next(&mut self) -> Option<(u32, i32)> {
        self.results.pop_front()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }
}

/// `result`, once everything written is on the disk.
fn and_sync(file: libc::c_int, result: i32) -> i32 {
    // SAFETY: the call touches no memory.
    let synced = outcome(|| unsafe { libc::fdatasync(file) } as isize);
    if synced < 0 { synced } else { result }
}

fn fallocate(file: libc::c_int, mode: libc::c_int, offset: i64, length: i64) -> i32 {
    let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the call touches no memory.
    outcome(|| unsafe { libc::fallocate(file, mode, offset, length) } as isize)
}

fn outcome(mut call: impl FnMut() -> isize) -> i32 {
    loop {
        let result = call();
        if result >= 0 {
            return result as i32;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return -error.raw_os_error().unwrap_or(libc::EIO);
        }
    }
}
