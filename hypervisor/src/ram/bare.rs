//! Memory that is mapped before it is known for which guest.

use super::pages::advise_small_pages;
use crate::Error;
use crate::mapping::{map_with_front, unmap};
use denali_abi::layout::{MEMORY_MAX, MEMORY_MIN, PAGE_SIZE, RAM_START};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Zeroed memory of the monitor alone for a guest of a certain size, with its front: what
/// [`Backing::Private`](super::Backing::Private) memory is made of. No page takes host memory before it is touched.
#[derive(Debug)]
pub struct BareRam {
    /// Where [`RAM_START`] is; as many bytes are mapped in front of it.
    base: NonNull<u8>,
    memory_size: u64,
}

impl BareRam {
    /// Maps memory that ends at guest address `memory_size`.
    ///
    /// # Errors
    /// When no guest has so little or so much, or the host refuses the mapping.
    pub fn new(memory_size: u64) -> Result<Self, Error> {
        let fits = (MEMORY_MIN..=MEMORY_MAX).contains(&memory_size);
        if !fits || !memory_size.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misuse("no guest has memory of this size"));
        }
        let length = (memory_size - RAM_START) as usize;
        let (base, _) = map_with_front(length, None)?;
        advise_small_pages(base, length);
        Ok(Self { base, memory_size })
    }

    /// End of RAM in bytes.
    #[must_use]
    pub fn memory_size(&self) -> u64 {
        self.memory_size
    }

    /// Where guest address 0 is mapped.
    #[must_use]
    pub fn host_start(&self) -> u64 {
        self.base.as_ptr() as u64 - RAM_START
    }

    /// Where [`RAM_START`] is mapped; the mapping is the caller's from here on.
    pub(super) fn into_base(self) -> NonNull<u8> {
        ManuallyDrop::new(self).base
    }
}

impl Drop for BareRam {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this front and length, and nothing refers to it.
        unsafe { unmap(self.base.sub(RAM_START as usize), self.memory_size as usize) };
    }
}
