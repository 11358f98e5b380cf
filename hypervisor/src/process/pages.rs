//! Pages that the monitor shares with the child it forks.

use crate::Error;
use denali_abi::layout::PAGE_SIZE;
use std::ptr::NonNull;

/// Zeroed memory that parent and child both see; unmapped when dropped.
#[derive(Debug)]
pub struct SharedPages {
    base: NonNull<u8>,
    length: usize,
}

impl SharedPages {
    /// Maps `count` pages, readable and writable.
    ///
    /// # Errors
    /// When the host refuses the mapping.
    pub fn new(count: usize) -> Result<Self, Error> {
        let length = count * PAGE_SIZE as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses unused addresses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Error::last("map pages to share with the guest's process"));
        }
        let base = NonNull::new(base.cast()).ok_or(Error::Misuse("pages mapped at address 0"))?;
        Ok(Self { base, length })
    }

    /// Address of the first byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Size in bytes, whole pages.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length as u64
    }

    /// The aligned word at `offset`, or `None` outside; the child may change it at any time.
    #[must_use]
    pub fn word(&self, offset: u64) -> Option<u64> {
        let inside = offset.checked_add(8).is_some_and(|end| end <= self.length());
        if !inside || !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the word is inside the mapping and aligned (checked), any bytes are a valid u64, and
        // a volatile read suits memory that another process writes.
        Some(unsafe { self.base.add(offset as usize).cast::<u64>().read_volatile() })
    }

    /// Makes the first page executable and no longer writable, here and in children forked later.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn make_first_page_text(&self) -> Result<(), Error> {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: the page belongs to this mapping, and no Rust reference to it exists.
        let status =
            unsafe { libc::mprotect(self.base.as_ptr().cast(), PAGE_SIZE as usize, protection) };
        if status != 0 {
            return Err(Error::last("make the set-up code executable"));
        }
        Ok(())
    }

    /// Copies `bytes` to the start of the pages.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.length {
            return Err(Error::Misuse("too much for the pages shared with the child"));
        }
        // SAFETY: the bytes fit (checked); the mapping is writable until `make_first_page_text`, and
        // no Rust reference to it exists.
        unsafe { self.base.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// A pointer to a `T` at `offset`, all of it inside the pages and aligned; `None` otherwise.
    #[must_use]
    pub fn pointer<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let inside = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.length);
        if !inside || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset is inside the mapping (checked).
        Some(unsafe { self.base.add(offset) }.cast())
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length; pointers into it do not outlive
        // their users, which hold `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_only_inside() {
        let pages = SharedPages::new(1).unwrap();
        pages.write(&[1, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap();
        assert_eq!(pages.word(0), Some(1));
        assert_eq!(pages.word(8), Some(2));
        assert_eq!(pages.word(4088), Some(0));
        for outside in [4, 4089, 4096, u64::MAX - 7, u64::MAX] {
            assert_eq!(pages.word(outside), None);
        }
        assert!(pages.write(&[0; 4097]).is_err());
    }
}
