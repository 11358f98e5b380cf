//! Switching between a task's stack and a thread's: what a function call leaves to be saved, and where the stack
//! goes on.
//!
//! A thread that was preempted has the rest of its registers on its own stack: the upcall's frame has
//! the general ones, and the entry in `frames` saves all of the vector state beside it.

use core::arch::naked_asm;

/// Words of a saved context: control words, six registers, and where to go on.
const CONTEXT: usize = 8;

/// What a new thread needs at the end of its stack.
pub(super) const NEW_WORDS: usize = CONTEXT;

/// Control words of x87 and SSE as the contract has them at the start: MXCSR below, x87 above.
const CONTROL: u64 = 0x1f80 | 0x37f << 32;

/// The end of the stack of a thread that is to begin with `begin(argument)` when it is switched to. The stack's
/// end, above the last word, is a multiple of 16.
pub(super) fn new_context(begin: extern "C" fn(usize) -> !, argument: usize) -> [u64; NEW_WORDS] {
    // Control words, R15 to R12, RBX, RBP (0 ends backtraces), RIP.
    let begin = begin as *const () as u64;
    [CONTROL, 0, 0, 0, begin, argument as u64, 0, start as *const () as u64]
}

/// Where new threads start: RBX = argument, R12 = function.
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!("mov rdi, rbx", "call r12", "ud2")
}

/// Saves the context below RSP, stores RSP at `save`, and goes on with the context at `load`; returns when
/// something switches to what was saved.
///
/// # Safety
/// `load` is what a switch stored or the address of a [`new_context`], the stack there is as it was, and nobody
/// goes on with it a second time.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
