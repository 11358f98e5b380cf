//! Memory for sectors, which a device can be lent.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// What the address of a buffer is a multiple of, so that hosts can move sectors without a copy.
const ALIGNMENT: usize = 4096;

/// Bytes at an address aligned to a page. A buffer that is given to a device belongs to the device until
/// it is given back; so no task can touch or free what the device may still write.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
}

impl Buffer {
    /// A buffer of `len` bytes, all zero; `None` without memory for it, or if it is empty.
    #[must_use]
    pub fn zeroed(len: usize) -> Option<Self> {
        let layout = layout(len)?;
        // SAFETY: the layout has a size that is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, len, capacity: len })
    }

    /// A buffer with these bytes, followed by zeroes up to a whole sector; `None` without memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut buffer = Self::zeroed(bytes.len().next_multiple_of(super::SECTOR as usize))?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Some(buffer)
    }

    /// Bytes it was made with.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Uses the first `len` bytes only, or as many as there are. The others stay as they are.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity);
    }

    /// Where its bytes are.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }
}

fn layout(len: usize) -> Option<Layout> {
    let layout = Layout::from_size_align(len, ALIGNMENT).ok()?;
    (len > 0).then_some(layout)
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes were allocated, zeroed, and belong to this buffer.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(layout) = layout(self.capacity) {
            // SAFETY: allocated with the same layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.len, self.capacity)
    }
}
