//! Memory: the heap, and pages that were never touched.
//!
//! The first touch of a page costs about 10 µs and makes it count as this guest's memory. So the
//! heap (talc) grows in small steps from the lowest free address, and large buffers which may never
//! be used come from the other end of RAM, where they cost nothing until they are written.

use crate::preemption::{self, Hold};
use crate::registers::boot_information;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ops::Range;
use core::ptr::NonNull;
use denali_abi::boot::BootInformation;
use denali_abi::layout::{PAGE_SIZE, RAM_FREE_START};
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::lock_api::{GuardNoSend, RawMutex};
use talc::source::Source;

/// Bytes by which the heap grows, and multiples of it.
const STEP: usize = 32 * 1024;

/// The last bytes of RAM that only small allocations get, so that a program whose large allocations
/// fail, and which copes with that, does not fail at the next small one.
const RESERVE: usize = 96 * 1024;

/// Bytes up to which an allocation is small.
const SMALL: usize = 2048;

/// The lock of a heap that one vCPU uses: it keeps threads from being preempted, and detects use from inside a
/// handler.
struct VcpuLock {
    taken: Cell<Option<Hold>>,
}

// SAFETY: a guest has one vCPU, and a thread is not preempted between the test and the change of `taken`, nor
// until it unlocks; a fault or upcall handler that allocates meanwhile finds it taken and panics.
unsafe impl Sync for VcpuLock {}

// SAFETY: `lock` never returns while the lock is held (it panics), so holders exclude each other.
unsafe impl RawMutex for VcpuLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait asks for it")]
    const INIT: Self = Self { taken: Cell::new(None) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        assert!(self.try_lock(), "memory was allocated or freed inside a fault or upcall handler");
    }

    fn try_lock(&self) -> bool {
        // If it was taken, the hold that was there is dropped and this one is in its place.
        self.taken.replace(Some(preemption::hold())).is_none()
    }

    unsafe fn unlock(&self) {
        // A preemption that is owed happens here, when the heap is free.
        drop(self.taken.take());
    }
}

/// Free RAM not yet given to anybody: up to two ranges, around image and stack.
#[derive(Debug)]
struct FreeRam {
    ranges: [Range<usize>; 2],
    /// End of the heap that grows at the start of each range.
    heap_ends: [Option<NonNull<u8>>; 2],
    known: bool,
}

// SAFETY: the pointers name RAM that belongs to the heap alone; nothing is tied to a thread.
unsafe impl Send for FreeRam {}

impl FreeRam {
    const fn unknown() -> Self {
        Self { ranges: [0..0, 0..0], heap_ends: [None; 2], known: false }
    }

    /// Learns from the boot information which RAM is free, at first use.
    fn learn(&mut self) {
        if !self.known {
            self.ranges = free_ranges(boot_information());
            self.known = true;
        }
    }

    /// Bytes that are left.
    fn left(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Takes `bytes` (rounded up to a page) from the end of the last range that has them.
    #[cfg_attr(not(guest_image), allow(dead_code, reason = "the host has its own memory"))]
    fn take_from_end(&mut self, bytes: usize) -> Option<Range<usize>> {
        self.learn();
        let bytes = bytes.checked_next_multiple_of(PAGE_SIZE as usize)?;
        if self.left() < bytes.checked_add(RESERVE)? {
            return None;
        }
        let range = self.ranges.iter_mut().rev().find(|range| range.len() >= bytes)?;
        range.end -= bytes;
        Some(range.end..range.end + bytes)
    }
}

// SAFETY: `acquire` uses no allocator but the one it is given.
unsafe impl Source for FreeRam {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        talc.source.learn();
        let overhead = talc::min_first_heap_size::<B>() + layout.align();
        let wanted = layout.size().checked_add(overhead).ok_or(())?;
        let small = layout.size() <= SMALL;
        let scarce = talc.source.left() < RESERVE + STEP;
        let step = if small && scarce { PAGE_SIZE as usize } else { STEP };
        let wanted = wanted.checked_next_multiple_of(step).ok_or(())?;
        if !small && talc.source.left() < wanted.saturating_add(RESERVE) {
            return Err(());
        }
        let index = talc.source.ranges.iter().position(|range| range.len() >= wanted).ok_or(())?;
        let start = talc.source.ranges[index].start;
        talc.source.ranges[index].start += wanted;
        let new_end = (start + wanted) as *mut u8;
        let end = match talc.source.heap_ends[index] {
            // SAFETY: talc gave this end for the heap of the range, and the bytes behind it were
            // free RAM, just taken out of what is free.
            Some(end) => Some(unsafe { talc.extend(end, new_end) }),
            // SAFETY: the bytes were free RAM, just taken out of what is free.
            None => unsafe { talc.claim(start as *mut u8, wanted) },
        };
        talc.source.heap_ends[index] = end;
        end.map(|_| ()).ok_or(())
    }
}

/// The RAM that belongs to nobody: below the image and above it, without stack and guard page.
fn free_ranges(boot: &BootInformation) -> [Range<usize>; 2] {
    let below = RAM_FREE_START..boot.image_start;
    let above = boot.image_end..boot.memory_size;
    [below, above].map(|range| {
        let guard = boot.stack_bottom.saturating_sub(PAGE_SIZE);
        let before = range.start..range.end.min(guard);
        let after = range.start.max(boot.stack_top)..range.end;
        let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let larger = if length(&before) >= length(&after) { before } else { after };
        if larger.is_empty() { 0..0 } else { larger.start as usize..larger.end as usize }
    })
}

/// The allocator of a guest.
pub(crate) struct Allocator(talc::TalcLock<VcpuLock, FreeRam>);

impl Allocator {
    #[cfg_attr(not(guest_image), allow(dead_code, reason = "the host has its own allocator"))]
    pub(crate) const fn new() -> Self {
        Self(talc::TalcLock::new(FreeRam::unknown()))
    }
}

// SAFETY: every call is passed on to talc, which keeps the contract of `GlobalAlloc`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}

/// Whether `bytes` can be allocated now in one piece.
#[must_use]
pub fn has_room(bytes: usize) -> bool {
    alloc::vec::Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

/// Memory from pages that were never touched, all zero; it is never given back. `None` if there is
/// not that much left.
#[must_use]
pub fn fresh(bytes: usize) -> Option<&'static mut [u8]> {
    #[cfg(guest_image)]
    {
        let allocator = crate::freestanding::allocator();
        let range = allocator.0.lock().source.take_from_end(bytes)?;
        // SAFETY: the range is RAM, zero since the guest's start as the contract says, and was just
        // taken out of what is free, so that nothing else refers to it.
        Some(unsafe { core::slice::from_raw_parts_mut(range.start as *mut u8, bytes) })
    }
    #[cfg(not(guest_image))]
    Some(std::vec![0; bytes].leak())
}

/// Bytes of RAM that have not been given to the heap or to anybody else yet.
#[must_use]
pub fn untouched() -> usize {
    #[cfg(guest_image)]
    {
        let mut heap = crate::freestanding::allocator().0.lock();
        heap.source.learn();
        heap.source.left()
    }
    #[cfg(not(guest_image))]
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use talc::base::binning::DefaultBinning;

    fn boot(image: Range<u64>, stack: Range<u64>, memory_size: u64) -> BootInformation {
        let mut boot = BootInformation::EMPTY;
        boot.memory_size = memory_size;
        (boot.image_start, boot.image_end) = (image.start, image.end);
        (boot.stack_bottom, boot.stack_top) = (stack.start, stack.end);
        boot
    }

    #[test]
    fn free_ram_leaves_out_image_stack_and_guard() {
        let usual = boot(0x20_0000..0x24_0000, 0x1c_0000..0x20_0000, 0x100_0000);
        assert_eq!(free_ranges(&usual), [0x10_3000..0x1b_f000, 0x24_0000..0x100_0000]);
        let high = boot(0x20_0000..0x24_0000, 0xf0_0000..0x100_0000, 0x100_0000);
        assert_eq!(free_ranges(&high), [0x10_3000..0x20_0000, 0x24_0000..0xef_f000]);
        let tight = boot(0x20_0000..0x20_1000, 0x10_4000..0x20_0000, 0x20_1000);
        assert_eq!(free_ranges(&tight), [0..0, 0..0]);
    }

    #[test]
    fn pages_come_from_the_end_and_a_reserve_stays() {
        let mut ram = FreeRam {
            ranges: [0x10_0000..0x10_0000 + RESERVE, 0x20_0000..0x20_2000],
            heap_ends: [None; 2],
            known: true,
        };
        assert_eq!(ram.take_from_end(1), Some(0x20_1000..0x20_2000));
        assert_eq!(ram.take_from_end(0x2000), None);
        assert_eq!(ram.take_from_end(0x1000), Some(0x20_0000..0x20_1000));
        assert_eq!(ram.take_from_end(1), None);
        assert_eq!(ram.take_from_end(usize::MAX), None);
    }

    /// A heap over memory of the host, as a guest's allocator uses it.
    #[test]
    fn when_memory_is_scarce_only_small_allocations_succeed() {
        let memory = std::vec![0_u64; (RESERVE + 8 * STEP) / 8].leak();
        let start = memory.as_mut_ptr() as usize;
        let mut heap = Talc::<FreeRam, DefaultBinning>::new(FreeRam {
            ranges: [start..start + RESERVE + 8 * STEP, 0..0],
            heap_ends: [None; 2],
            known: true,
        });
        let mut allocate = |size| {
            // SAFETY: the layouts have a size, and nothing is ever freed.
            unsafe { heap.allocate(Layout::from_size_align(size, 16).unwrap()) }.is_some()
        };
        assert!(!allocate(RESERVE + 8 * STEP));
        while allocate(16 * 1024) {}
        let small = (0..).take_while(|_| allocate(1024)).count();
        assert!(small > 50, "{small}");
        assert!(!allocate(1024));
    }
}
