//! How guest memory is mapped into the monitor.

use crate::Error;
use denali_abi::layout::RAM_START;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// A zeroed file in memory of `length` bytes, and of no other length ever after: whoever it is shared
/// with could otherwise cut it, and the monitor's next access would be its last.
///
/// # Errors
/// When the host refuses.
pub(crate) fn create_memfd(length: u64) -> Result<OwnedFd, Error> {
    let fd = memfd_create("denali-ram", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(Error::host("create guest memory"))?;
    nix::unistd::ftruncate(&fd, length as i64).map_err(Error::host("size guest memory"))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(Error::host("seal guest memory's size"))?;
    Ok(fd)
}

/// Maps `length` bytes readable and writable: of a file shared or copy-on-write, or anonymous; at a
/// place of the kernel's choice, or over memory that guest RAM already has mapped.
///
/// # Errors
/// When the host refuses the mapping.
pub(crate) fn map_at(
    over: Option<NonNull<u8>>,
    length: usize,
    file: Option<(BorrowedFd<'_>, u64)>,
    shared: bool,
) -> Result<NonNull<u8>, Error> {
    let mut flags = libc::MAP_NORESERVE;
    flags |= if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    flags |= if over.is_some() { libc::MAP_FIXED } else { 0 };
    flags |= if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let (fd, offset) = file.map_or((-1, 0), |(fd, offset)| (fd.as_raw_fd(), offset));
    let at = over.map_or(std::ptr::null_mut(), NonNull::as_ptr).cast();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: without `over` the kernel chooses unused addresses; with it the caller has checked that
    // the range lies inside guest RAM, to which no Rust reference exists.
    let mapped = unsafe { libc::mmap(at, length, protection, flags, fd, offset as libc::off_t) };
    if mapped == libc::MAP_FAILED {
        return Err(Error::last("map guest memory"));
    }
    NonNull::new(mapped.cast()).ok_or(Error::Misuse("guest memory mapped at address 0"))
}

/// Maps memory, anonymous or of a memfd, with [`RAM_START`] bytes of anonymous front, such that guest
/// address 0 would lie at a multiple of what one page of the host's page tables covers: the few pages
/// that a small guest and its monitor use lie together near the start, and need two such pages.
///
/// # Errors
/// When the host refuses the mapping.
pub(crate) fn map_with_front(
    length: usize,
    memfd: Option<BorrowedFd<'_>>,
) -> Result<(NonNull<u8>, usize), Error> {
    const COVERED: usize = 2 << 20;
    const FRONT: usize = RAM_START as usize;
    let whole = FRONT + length;
    let mapped = map_at(None, whole + COVERED, None, false)?;
    let before = mapped.align_offset(COVERED);
    // SAFETY: `before` is at most `COVERED`, so the aligned range and what is left around it lie inside
    // the mapping made above, which nobody else knows of.
    let start = unsafe {
        let start = mapped.add(before);
        unmap(mapped, before);
        unmap(start.add(whole), COVERED - before);
        start
    };
    // SAFETY: as above; the front is mapped anew, this time with its memory reserved, since all of it
    // may be used: it also shows as a mapping of its own.
    let front = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(start.as_ptr().cast(), FRONT, protection, flags, -1, 0)
    };
    if front == libc::MAP_FAILED {
        return Err(Error::last("map supervisor memory"));
    }
    // SAFETY: the front ends where RAM begins, inside the mapping.
    let ram = unsafe { start.add(FRONT) };
    if let Some(memfd) = memfd {
        map_at(Some(ram), length, Some((memfd, 0)), true)?;
    }
    Ok((ram, FRONT))
}

/// Unmaps whole pages, if there are any.
///
/// # Safety
/// The range belongs to a mapping of the caller's, and nothing refers to it.
pub(crate) unsafe fn unmap(start: NonNull<u8>, length: usize) {
    if length > 0 {
        // SAFETY: as the caller promises.
        unsafe { libc::munmap(start.as_ptr().cast(), length) };
    }
}

/// Reads `length` bytes of a file from `offset` on into memory; what the file does not have stays as it
/// was.
///
/// # Safety
/// The memory is writable for `length` bytes, and no Rust reference to it exists.
///
/// # Errors
/// When the file cannot be read.
pub(crate) unsafe fn read_file(
    file: BorrowedFd<'_>,
    offset: u64,
    to: NonNull<u8>,
    length: usize,
) -> Result<(), Error> {
    let mut done = 0;
    while done < length {
        let at = (offset + done as u64) as libc::off_t;
        // SAFETY: `done` is below `length`, so that what is written lies inside the memory that the
        // caller vouches for.
        let read = unsafe {
            libc::pread(file.as_raw_fd(), to.add(done).as_ptr().cast(), length - done, at)
        };
        match read {
            0 => break,
            1.. => done += read as usize,
            _ if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return Err(Error::last("copy a file into guest memory")),
        }
    }
    Ok(())
}
