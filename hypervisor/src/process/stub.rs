//! The last code of the monitor's that runs in the child: it unmaps all other code, and then itself.
//!
//! It is copied to a page of its own, uses no stack, and talks to the tracer by trapping:
//! 1. It starts with INT3. The tracer fills in the registers, and continues it at the system call that
//!    unregisters restartable sequences, or behind it where the C library has registered none. (A
//!    registered area that is no longer mapped would have the kernel kill the child.)
//! 2. It unmaps the gaps between what the guest keeps: libraries, stack, heap, vdso.
//! 3. It installs the filter that stops every system call, and unmaps the pages it is on: the first
//!    call the filter reports, and the only one the tracer ever lets pass.
//! 4. There is no next instruction. The fault of its fetch tells the tracer that all is done.
//!
//! Any failure ends in INT3 with RAX holding the negated error number, and R15 the step.

use super::plan::Control;
use std::arch::global_asm;
use std::mem::offset_of;

global_asm!(
    ".pushsection .rodata.denali_process_stub, \"a\"",
    ".globl denali_process_stub_start",
    ".globl denali_process_stub_unmap",
    ".globl denali_process_stub_end",
    ".hidden denali_process_stub_start",
    ".hidden denali_process_stub_unmap",
    ".hidden denali_process_stub_end",
    "denali_process_stub_start:",
    "int3",
    "syscall", // the tracer has loaded the registers
    "test rax, rax",
    "jnz 5f",
    "denali_process_stub_unmap:",
    "mov r15d, {unmap_step}",
    "lea rbx, [r12 + {gaps}]",
    "3:",
    "mov rdi, [rbx]",
    "mov rsi, [rbx + 8]",
    "test rsi, rsi",
    "jz 4f",
    "mov eax, {munmap}",
    "syscall",
    "test rax, rax",
    "jnz 5f",
    "add rbx, 16",
    "jmp 3b",
    "4:",
    "mov r15d, {filter_step}",
    "mov eax, {seccomp}",
    "mov edi, {set_filter}",
    "xor esi, esi",
    "lea rdx, [r12 + {program}]",
    "syscall",
    "test rax, rax",
    "jnz 5f",
    "mov r15d, {unmap_step}",
    "mov eax, {munmap}",
    "mov rdi, r13",
    "mov rsi, r14",
    "syscall",
    "5:",
    "int3",
    "denali_process_stub_end:",
    ".popsection",
    unmap_step = const super::child::Step::Unmap as u32,
    filter_step = const super::child::Step::Filter as u32,
    gaps = const offset_of!(Control, gaps),
    program = const offset_of!(Control, program),
    munmap = const libc::SYS_munmap,
    seccomp = const libc::SYS_seccomp,
    set_filter = const libc::SECCOMP_SET_MODE_FILTER,
);

unsafe extern "C" {
    static denali_process_stub_start: u8;
    static denali_process_stub_unmap: u8;
    static denali_process_stub_end: u8;
}

/// The code: position-independent, shorter than a page.
#[must_use]
pub fn code() -> &'static [u8] {
    let start = &raw const denali_process_stub_start;
    let length = (&raw const denali_process_stub_end).addr() - start.addr();
    // SAFETY: both symbols delimit the assembly above, which is read-only data of the program.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Offset of the system call behind the first INT3.
pub const FIRST_CALL: u64 = 1;

/// Offset at which unmapping starts.
#[must_use]
pub fn unmap_offset() -> u64 {
    let start = (&raw const denali_process_stub_start).addr();
    ((&raw const denali_process_stub_unmap).addr() - start) as u64
}
