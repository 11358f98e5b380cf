//! Fault and upcall entries in assembly alone, which record how they were entered and resume exactly.

use crate::state::{ENTERED, FAULTS, FRAME, RESUME_AT, RFLAGS, UPCALLS};
use core::arch::naked_asm;
use core::sync::atomic::Ordering;
use ilwaco::abi::layout::VIRTUAL_REGISTERS;
use ilwaco::abi::registers::VirtualRegisters;
use ilwaco::registers::virtual_registers;

/// Address of `upcall_enabled`, for assembly.
const UPCALL_ENABLED: u64 =
    VIRTUAL_REGISTERS + core::mem::offset_of!(VirtualRegisters, upcall_enabled) as u64;

/// Has faults recorded and resumed at [`RESUME_AT`].
pub fn install_fault() {
    virtual_registers().fault_entry.store(fault as *const () as u64, Ordering::SeqCst);
}

/// Has upcalls recorded, and enabled again before each is resumed.
pub fn install_upcall() {
    let registers = virtual_registers();
    registers.upcall_entry.store(upcall as *const () as u64, Ordering::SeqCst);
    registers.upcall_enabled.store(1, Ordering::SeqCst);
}

/// Has upcalls recorded once: the next must be enabled again.
pub fn install_upcall_once() {
    let registers = virtual_registers();
    registers.upcall_entry.store(upcall_once as *const () as u64, Ordering::SeqCst);
    registers.upcall_enabled.store(1, Ordering::SeqCst);
}

/// No upcalls any more.
pub fn remove_upcall() {
    let registers = virtual_registers();
    registers.upcall_enabled.store(0, Ordering::SeqCst);
    registers.upcall_entry.store(0, Ordering::SeqCst);
}

/// Stores the registers as they are at the entry, and copies the frame.
macro_rules! record {
    () => {
        concat!(
            "mov [rip + {entered}], rax\n",
            "mov [rip + {entered} + 8], rbx\n",
            "mov [rip + {entered} + 16], rcx\n",
            "mov [rip + {entered} + 24], rdx\n",
            "mov [rip + {entered} + 32], rsi\n",
            "mov [rip + {entered} + 40], rdi\n",
            "mov [rip + {entered} + 48], rbp\n",
            "mov [rip + {entered} + 56], rsp\n",
            "mov [rip + {entered} + 64], r8\n",
            "mov [rip + {entered} + 72], r9\n",
            "mov [rip + {entered} + 80], r10\n",
            "mov [rip + {entered} + 88], r11\n",
            "mov [rip + {entered} + 96], r12\n",
            "mov [rip + {entered} + 104], r13\n",
            "mov [rip + {entered} + 112], r14\n",
            "mov [rip + {entered} + 120], r15\n",
            "pushfq\n",
            "pop qword ptr [rip + {entered} + {rflags}]\n",
            "cld\n",
            "mov rbx, rdi\n",
            "mov rsi, rdi\n",
            "lea rdi, [rip + {frame}]\n",
            "mov ecx, 22\n",
            "rep movsq\n",
            "mov rsp, rbx\n",
        )
    };
}

/// Loads the registers from the frame at RSP and resumes, as docs/abi.md says.
macro_rules! resume {
    () => {
        concat!(
            "mov rax, [rsp + 0x20]\n",
            "mov rbx, [rsp + 0x28]\n",
            "mov rcx, [rsp + 0x30]\n",
            "mov rdx, [rsp + 0x38]\n",
            "mov rsi, [rsp + 0x40]\n",
            "mov rdi, [rsp + 0x48]\n",
            "mov rbp, [rsp + 0x50]\n",
            "mov r8, [rsp + 0x60]\n",
            "mov r9, [rsp + 0x68]\n",
            "mov r10, [rsp + 0x70]\n",
            "mov r11, [rsp + 0x78]\n",
            "mov r12, [rsp + 0x80]\n",
            "mov r13, [rsp + 0x88]\n",
            "mov r14, [rsp + 0x90]\n",
            "mov r15, [rsp + 0x98]\n",
            "mov rsp, [rsp + 0x18]\n",
            "popfq\n",
            "ret 128\n",
        )
    };
}

/// Enters for faults: resumes at [`RESUME_AT`] with all registers as they were.
#[unsafe(naked)]
unsafe extern "C" fn fault() {
    naked_asm!(
        record!(),
        "inc qword ptr [rip + {faults}]",
        "mov rax, [rsp + 0x18]",
        "mov rcx, [rip + {resume_at}]",
        "mov [rax + 8], rcx",
        resume!(),
        entered = sym ENTERED,
        rflags = const RFLAGS,
        frame = sym FRAME,
        faults = sym FAULTS,
        resume_at = sym RESUME_AT,
    )
}

/// Enters for upcalls: the next may come before this one is resumed.
#[unsafe(naked)]
unsafe extern "C" fn upcall() {
    naked_asm!(
        record!(),
        "inc qword ptr [rip + {upcalls}]",
        "mov qword ptr [{enabled}], 1",
        resume!(),
        entered = sym ENTERED,
        rflags = const RFLAGS,
        frame = sym FRAME,
        upcalls = sym UPCALLS,
        enabled = const UPCALL_ENABLED,
    )
}

/// Enters for the one upcall that is wanted.
#[unsafe(naked)]
unsafe extern "C" fn upcall_once() {
    naked_asm!(
        record!(),
        "inc qword ptr [rip + {upcalls}]",
        resume!(),
        entered = sym ENTERED,
        rflags = const RFLAGS,
        frame = sym FRAME,
        upcalls = sym UPCALLS,
    )
}
