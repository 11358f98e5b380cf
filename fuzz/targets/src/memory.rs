//! Counts what a thread allocates, so that a target can say how much a parser may.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes a thread has allocated and not given back.
#[derive(Clone, Copy, Default)]
struct Use {
    now: isize,
    most: isize,
}

thread_local! {
    static USED: Cell<Use> = const { Cell::new(Use { now: 0, most: 0 }) };
}

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// A thread that ends is not counted any more.
fn count(bytes: isize) {
    let _ = USED.try_with(|used| {
        let now = used.get().now + bytes;
        used.set(Use { now, most: used.get().most.max(now) });
    });
}

// SAFETY: all is done by the system's allocator, with what the caller gave; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Does something that never has more than `most` bytes allocated at a time.
///
/// # Panics
/// When it had more.
pub(crate) fn bounded<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = USED.get();
    USED.set(Use { now: 0, most: 0 });
    let result = work();
    let during = USED.get();
    assert!(during.most <= most as isize, "{} bytes were allocated of {most}", during.most);
    USED.set(Use { now: before.now + during.now, most: before.most.max(before.now + during.most) });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted() {
        assert_eq!(bounded(1000, || vec![0_u8; 1000]).len(), 1000);
        let twice = || drop((vec![0_u8; 400], std::hint::black_box(vec![0_u8; 400])));
        bounded(800, twice);
        assert!(std::panic::catch_unwind(|| bounded(799, twice)).is_err());
    }
}
