//! Anonymous memory by whole pages: buffers of transfers, and places for secrets.

use crate::region::PAGE;
use std::io;
use std::ptr::NonNull;

/// Zeroed memory of its own mapping, which goes back to the host when it is dropped. It begins at a page: as
/// the place of a [read](crate::Store::read) it saves a copy, and has all parts of it read at once.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the value alone, and any thread may use or unmap it.
unsafe impl Send for Mapping {}
// SAFETY: shared references only read it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// At least `length` bytes, in whole pages, at least one.
    ///
    /// # Errors
    /// When the host has no room.
    pub fn new(length: usize) -> io::Result<Self> {
        Self::map(length, 0)
    }

    /// The same, with all of it in memory from the start, which is quicker than page by page.
    ///
    /// # Errors
    /// When the host has no room.
    pub fn populated(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_POPULATE)
    }

    fn map(length: usize, populate: libc::c_int) -> io::Result<Self> {
        let length = length.max(1).checked_next_multiple_of(PAGE);
        let length = length.ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate;
        // SAFETY: a new anonymous mapping at a place of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, initialised (zeroed) and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// All of it, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is writable, initialised (zeroed) and borrowed exclusively with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
