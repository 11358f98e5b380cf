//! What `O_DIRECT` asks of buffers and positions.

use denali_devices::virtio::HostSlice;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Alignments of one file, in bytes, powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Of addresses in memory.
    pub(crate) memory: usize,
    /// Of positions and lengths: at least a sector.
    pub(crate) position: u32,
}

impl Alignment {
    /// What the page cache asks: nothing.
    pub(crate) const NONE: Self = Self { memory: 1, position: 512 };
    /// What every disk is content with, where the host does not say.
    pub(crate) const SAFE: Self = Self { memory: 4096, position: 4096 };

    /// The alignments of an open file.
    pub(crate) fn of(file: BorrowedFd<'_>, direct: bool) -> Self {
        if !direct {
            return Self::NONE;
        }
        // SAFETY: the structure is integers, for which all-zero is valid.
        let mut status: libc::statx = unsafe { std::mem::zeroed() };
        // SAFETY: the path is an empty C string and the structure is writable during the call.
        let done = unsafe {
            libc::statx(
                file.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                libc::STATX_DIOALIGN,
                &raw mut status,
            )
        };
        let (memory, position) = (status.stx_dio_mem_align, status.stx_dio_offset_align);
        let known = done == 0 && status.stx_mask & libc::STATX_DIOALIGN != 0;
        if !known || !memory.is_power_of_two() || !position.is_power_of_two() {
            return Self::SAFE;
        }
        Self { memory: memory as usize, position: position.max(512) }
    }

    /// The stricter of two.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), position: self.position.max(other.position) }
    }

    /// Whether positions and lengths are aligned.
    pub(crate) fn allows(self, offset: u64, length: u64) -> bool {
        (offset | length).is_multiple_of(u64::from(self.position))
    }

    /// Whether the host takes these buffers as they are.
    pub(crate) fn takes(self, slices: &[HostSlice]) -> bool {
        self.memory == 1
            || slices.iter().all(|slice| {
                slice.address.is_multiple_of(self.memory)
                    && slice.length.is_multiple_of(self.position as usize)
            })
    }
}
