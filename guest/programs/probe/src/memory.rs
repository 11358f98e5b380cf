//! Checks of the address map and of memory itself.

use crate::state::{FAULTS, FRAME, RESUME_AT, Shared};
use crate::{Checked, check, handlers, instructions};
use core::arch::naked_asm;
use core::sync::atomic::Ordering;
use ilwaco::abi::doorbell;
use ilwaco::abi::layout::{
    ARGUMENTS, BOOT_INFORMATION, MEMORY_MAX, PAGE_SIZE, RAM_FREE_START, RAM_START,
    VIRTUAL_REGISTERS,
};
use ilwaco::abi::registers::CONSOLE_MAX;
use ilwaco::println;
use ilwaco::registers::{boot_information, virtual_registers};

static READ_ONLY: [u8; 64] = [0xc3; 64];
static WRITABLE: Shared<[u8; 64]> = Shared::new([0xc3; 64]);

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const FETCH: u64 = 1 << 4;

/// What can be done with an address.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    Execute,
}

/// Does it; the error code of the fault, if there was one.
fn attempt(access: Access, address: u64) -> Result<(), u64> {
    let function = match access {
        Access::Read => try_read,
        Access::Write => try_write,
        Access::Execute => try_call,
    };
    let before = FAULTS.get();
    // SAFETY: the functions touch one byte: reading it, writing it back as it was, or calling it,
    // which faults unless it is `just_return`. A fault resumes at their end.
    unsafe { function(address) };
    let frame = FRAME.get();
    if FAULTS.get() == before { Ok(()) } else { Err(frame.error_code) }
}

/// Reads a byte.
#[unsafe(naked)]
unsafe extern "C" fn try_read(_address: u64) {
    naked_asm!(
        "lea rax, [rip + 3f]",
        "mov [rip + {resume_at}], rax",
        "mov al, [rdi]",
        "3: ret",
        resume_at = sym RESUME_AT,
    )
}

/// Writes a byte as it was.
#[unsafe(naked)]
unsafe extern "C" fn try_write(_address: u64) {
    naked_asm!(
        "lea rax, [rip + 3f]",
        "mov [rip + {resume_at}], rax",
        "lock or byte ptr [rdi], 0",
        "3: ret",
        resume_at = sym RESUME_AT,
    )
}

/// Calls an address.
#[unsafe(naked)]
unsafe extern "C" fn try_call(_address: u64) {
    naked_asm!(
        "lea rax, [rip + 3f]",
        "mov [rip + {resume_at}], rax",
        "call rdi",
        "ret",
        // Of a call that faults only the return address is on the stack.
        "3: add rsp, 8",
        "ret",
        resume_at = sym RESUME_AT,
    )
}

/// Code that can be called.
#[unsafe(naked)]
unsafe extern "C" fn just_return() {
    naked_asm!("ret")
}

/// Accesses an address in all ways, and compares with what the address map grants.
fn expect(what: &'static str, address: u64, read: bool, write: bool, execute: bool) -> Checked {
    let present = if read { PRESENT } else { 0 };
    for (access, granted, code) in [
        (Access::Read, read, USER),
        (Access::Write, write, USER | WRITE),
        (Access::Execute, execute, USER | FETCH),
    ] {
        match attempt(access, address) {
            Ok(()) => check(granted, what)?,
            Err(error) => {
                let frame = FRAME.get();
                check(!granted && frame.vector == 14 && frame.address == address, what)?;
                check(error == code | present, "the error code of a page fault")?;
            }
        }
    }
    Ok(())
}

/// Reads, writes and executes on both sides of every border of the address map.
pub fn protection() -> Checked {
    handlers::install_fault();
    let boot = boot_information();
    let nothing = |what, address| expect(what, address, false, false, false);
    let readable = |what, address| expect(what, address, true, false, false);
    let ram = |what, address| expect(what, address, true, true, false);
    nothing("address 0", 0)?;
    nothing("the first page", PAGE_SIZE - 1)?;
    nothing("the second page", PAGE_SIZE)?;
    nothing("the end of the null guard", RAM_START - 1)?;
    ram("the virtual registers", VIRTUAL_REGISTERS)?;
    ram("the end of the virtual registers", BOOT_INFORMATION - 1)?;
    readable("the boot information", BOOT_INFORMATION)?;
    readable("the arguments", ARGUMENTS)?;
    readable("the end of the arguments", RAM_FREE_START - 1)?;
    ram("the first RAM", RAM_FREE_START)?;
    ram("the page below the guard", boot.stack_bottom - PAGE_SIZE - 1)?;
    nothing("the start of the guard", boot.stack_bottom - PAGE_SIZE)?;
    nothing("the end of the guard", boot.stack_bottom - 1)?;
    ram("the bottom of the stack", boot.stack_bottom)?;
    ram("the top of the stack", boot.stack_top - 1)?;
    expect("code", just_return as *const () as u64, true, false, true)?;
    readable("read-only data", READ_ONLY.as_ptr() as u64)?;
    ram("data", &raw const WRITABLE as u64)?;
    ram("the page after the image", boot.image_end)?;
    ram("the end of memory", boot.memory_size - 1)?;
    if boot.memory_size < MEMORY_MAX {
        nothing("after the end of memory", boot.memory_size)?;
        nothing("the last address of the map", MEMORY_MAX - 1)?;
    }
    Ok(())
}

/// Uses the last word of memory; the word across the end faults.
pub fn edge() -> Checked {
    handlers::install_fault();
    let end = boot_information().memory_size;
    let last = (end - 8) as *mut u64;
    // SAFETY: the last word of memory is free RAM, of which nothing else knows: the probe
    // allocates nothing.
    unsafe {
        last.write_volatile(0x0123_4567_89ab_cdef);
        check(last.read_volatile() == 0x0123_4567_89ab_cdef, "the last word of memory")?;
    }
    if end < MEMORY_MAX {
        check(attempt(Access::Read, end).is_err(), "memory after its end")?;
    }
    Ok(())
}

/// What to do with free memory.
#[derive(Clone, Copy)]
enum Pass {
    /// It is zero; write a pattern.
    Fill,
    /// It holds the pattern.
    Verify,
}

/// Finds all free memory zero, writes a pattern to it, and finds that.
pub fn pattern() -> Checked {
    let boot = boot_information();
    let guard = boot.stack_bottom - PAGE_SIZE;
    let mut bytes = 0;
    for pass in [Pass::Fill, Pass::Verify] {
        bytes = 0;
        for (start, end) in [(RAM_FREE_START, boot.image_start), (boot.image_end, boot.memory_size)]
        {
            // The guard and the stack lie in one of the two.
            bytes += walk(pass, start, end.min(guard))?;
            bytes += walk(pass, start.max(boot.stack_top), end)?;
        }
    }
    println!("bytes={bytes}");
    Ok(())
}

/// Goes over every word of a range, which may be empty; its bytes.
fn walk(pass: Pass, start: u64, end: u64) -> Result<u64, crate::Failed> {
    for address in (start..end).step_by(8) {
        let word = address as *mut u64;
        let pattern = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SAFETY: the range is free RAM, of which nothing else knows: the probe allocates nothing.
        // Its last word may be that of memory's end; addresses are multiples of 8.
        unsafe {
            match pass {
                Pass::Fill => {
                    check(word.read_volatile() == 0, "memory that is not zero at the start")?;
                    word.write_volatile(pattern);
                }
                Pass::Verify => check(word.read_volatile() == pattern, "memory changed")?,
            }
        }
    }
    Ok(end.saturating_sub(start))
}

/// CONSOLE with nothing to write, and with more than it writes at once.
pub fn console_limits() -> Checked {
    let registers = virtual_registers();
    registers.console_addr.store(0, Ordering::Relaxed);
    registers.console_len.store(0, Ordering::Relaxed);
    instructions::out(doorbell::CONSOLE, 0);
    let text = boot_information().image_end;
    for index in 0..CONSOLE_MAX + 16 {
        let letter = if index < CONSOLE_MAX { b'.' } else { b'X' };
        // SAFETY: memory after the image is free RAM, of which nothing else knows.
        unsafe { ((text + index) as *mut u8).write_volatile(letter) };
    }
    registers.console_addr.store(text, Ordering::Relaxed);
    registers.console_len.store(CONSOLE_MAX + 16, Ordering::Relaxed);
    instructions::out(doorbell::CONSOLE, 0);
    println!();
    Ok(())
}
