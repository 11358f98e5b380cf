//! The stack of threads: one for all, in the lower half of the program's own.
//!
//! A thread that does not run has what is on its stack in the heap; it is copied to where it was before the
//! thread goes on. So all threads run above the one guard page that a guest has, and one that uses too
//! much stack ends the guest as the program itself would; a stack takes no more memory than it is
//! deep; and while tasks run they have the whole stack.

use super::switch::{NEW_WORDS, new_context};
use alloc::vec::Vec;

/// Bytes that a task needs between its own stack pointer and the threads' stack, to copy and to switch.
#[cfg(guest_image)]
const TASK_NEEDS: u64 = 2048;

/// Where threads run: from `bottom` to `top`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    bottom: u64,
    top: u64,
}

impl Area {
    /// The lower half of the stack that a program has.
    #[cfg(guest_image)]
    pub(super) fn of_program() -> Self {
        let boot = crate::registers::boot_information();
        let half = (boot.stack_top - boot.stack_bottom) / 2;
        Self { bottom: boot.stack_bottom, top: (boot.stack_bottom + half) & !15 }
    }

    /// On the host: memory of its own for each thread of the host, never freed.
    #[cfg(not(guest_image))]
    pub(super) fn of_program() -> Self {
        const WORDS: usize = 32 << 10;
        std::thread_local! {
            static BOTTOM: u64 = std::vec![0_u128; WORDS / 2].leak().as_mut_ptr() as u64;
        }
        let bottom = BOTTOM.with(|bottom| *bottom);
        Self { bottom, top: bottom + 8 * WORDS as u64 }
    }

    /// Makes sure that the stack of the task that runs does not reach into the area.
    ///
    /// # Panics
    /// If it does: threads run only while tasks wait in `block_on`, which has little above it, unless the program
    /// called it from deep inside.
    fn assert_free(self) {
        #[cfg(guest_image)]
        {
            let rsp: u64;
            // SAFETY: copies a register, nothing else.
            unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) }
            assert!(rsp > self.top + TASK_NEEDS, "the stack is too small for threads: stack_size");
        }
    }
}

/// A thread's stack while it does not run.
pub(super) struct Saved {
    /// From the stack pointer up to the end of the area.
    words: Vec<u64>,
}

impl Saved {
    /// The stack of a thread that begins with `begin(argument)`.
    pub(super) fn new(begin: extern "C" fn(usize) -> !, argument: usize) -> Self {
        Self { words: new_context(begin, argument).to_vec() }
    }

    /// Puts the stack where it belongs; where it goes on.
    pub(super) fn restore(&self, area: Area) -> u64 {
        area.assert_free();
        let rsp = area.top - 8 * self.words.len() as u64;
        // SAFETY: the words came from there, or are few and for its end; no task's stack reaches
        // into the area, and no thread runs, so nothing else is there.
        unsafe {
            let to = rsp as *mut u64;
            to.copy_from_nonoverlapping(self.words.as_ptr(), self.words.len());
        }
        rsp
    }

    /// Takes the stack of a thread that has left with this stack pointer.
    ///
    /// # Panics
    /// If memory runs out, as any allocation that cannot fail, and if the thread has left its stack.
    pub(super) fn take(&mut self, area: Area, rsp: u64) {
        let on_stack = rsp >= area.bottom && rsp <= area.top - 8 * NEW_WORDS as u64;
        assert!(on_stack && rsp.is_multiple_of(8), "a thread's stack pointer is not on its stack");
        let count = (area.top - rsp) as usize / 8;
        self.words.clear();
        self.words.reserve(count);
        // SAFETY: the thread left its words there, within the area, and does not run; the room for them was
        // reserved, and they are initialised once they are copied.
        unsafe {
            self.words.as_mut_ptr().copy_from_nonoverlapping(rsp as *const u64, count);
            self.words.set_len(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn never(_: usize) -> ! {
        unreachable!("no thread runs here")
    }

    #[test]
    fn a_stack_returns_to_where_it_was() {
        let area = Area::of_program();
        let mut saved = Saved::new(never, 7);
        let rsp = saved.restore(area);
        assert_eq!(rsp, area.top - 64);
        let deeper = rsp - 8;
        // SAFETY: inside the area, which is this test's own.
        unsafe { (deeper as *mut u64).write(4321) };
        saved.take(area, deeper);
        // SAFETY: as above.
        unsafe { (deeper as *mut u64).write(0) };
        assert_eq!(saved.restore(area), deeper);
        // SAFETY: as above.
        assert_eq!(unsafe { (deeper as *const u64).read() }, 4321);
    }

    #[test]
    #[should_panic(expected = "not on its stack")]
    fn a_wild_stack_pointer_is_refused() {
        let area = Area::of_program();
        Saved::new(never, 0).take(area, area.top + 64);
    }
}
