//! Commands that end the guest, each by one thing no guest may do.

use crate::instructions::{input, out};
use crate::{handlers, number};
use core::arch::asm;
use core::hint::black_box;
use ilwaco::abi::layout::BOOT_INFORMATION;
use ilwaco::abi::{doorbell, registers::VirtualRegisters};

/// Executes a few instructions that should not come back; nothing relies on anything after them.
macro_rules! execute {
    ($($line:literal),+) => {
        // SAFETY: the instructions fault, which ends this guest: no Rust code runs after them.
        unsafe { asm!($($line),+) }
    };
}

/// A function made of data: `ret`.
static DATA_FUNCTION: [u8; 16] = [0xc3; 16];

/// Runs the command if it is one of those; returns if it is not, or if the guest is still alive.
pub fn run(command: &str, rest: &str) {
    match command {
        "read" => read(number(rest)),
        "write" => write(number(rest)),
        "jump" => call(number(rest)),
        "read-null" => read(0),
        "write-null" => write(0),
        "write-text" => write(run as *const () as u64),
        "write-rodata" => write(DATA_FUNCTION.as_ptr() as u64),
        "write-boot" => write(BOOT_INFORMATION),
        "exec-data" => call(DATA_FUNCTION.as_ptr() as u64),
        "exec-stack" => {
            let code = black_box([0xc3_u8; 16]);
            call(&raw const code as u64);
        }
        "jump-wild" => call(0x1234_5678_9abc),
        "stack-overflow" => drop(black_box(recurse(1))),
        "wild-rsp-fault" => execute!("mov esp, 0x1000", "ud2"),
        "wild-rsp-handled" => {
            handlers::install_fault();
            execute!("mov esp, 0x1000", "ud2");
        }
        "unknown-port" => out(0x3f8, 0x41),
        "in-unknown-port" => drop(black_box(input(0x60))),
        "in-doorbell" => drop(black_box(input(doorbell::IDLE))),
        "div0" => execute!("xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx"),
        "ud2" => execute!("ud2"),
        "int3" => execute!("int3"),
        "int80" => execute!("mov eax, 1", "int 0x80"),
        "syscall" => execute!("mov eax, 60", "syscall"),
        "sysenter" => execute!("mov eax, 1", "sysenter"),
        "hlt" => execute!("hlt"),
        "cli" => execute!("cli"),
        "read-cr3" => execute!("mov rax, cr3"),
        "rdmsr" => execute!("mov ecx, 0xc0000080", "rdmsr"),
        "noncanonical" => read(0x8000_0000_0000_0000),
        "misaligned-sse" => execute!("lea rax, [rsp + 1]", "and rax, -2", "movaps xmm0, [rax + 1]"),
        "console-bad-address" => console_bad_address(ilwaco::registers::virtual_registers()),
        _ => {}
    }
}

fn read(address: u64) {
    // SAFETY: where the guest may not read this faults and ends it; where it may, nothing changes.
    unsafe { asm!("mov {0:r}, [{0:r}]", inout(reg) address => _, options(nostack, readonly)) }
}

fn write(address: u64) {
    // SAFETY: where the guest may not write this faults and ends it; elsewhere the word is written
    // back as it was.
    unsafe { asm!("lock add qword ptr [{0:r}], 0", in(reg) address, options(nostack)) }
}

fn call(address: u64) {
    // SAFETY: the callers give addresses that are no code, at which the call faults and ends the
    // guest; a tester who gives another with `jump` has asked for it.
    unsafe { asm!("call {0:r}", in(reg) address, clobber_abi("C")) }
}

/// Uses stack until there is none.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 32]);
    if depth == 0 {
        return 0; // only the compiler thinks that this may be
    }
    recurse(black_box(depth + 1)) + room[(depth % 32) as usize]
}

fn console_bad_address(registers: &VirtualRegisters) {
    use core::sync::atomic::Ordering::Relaxed;
    registers.console_addr.store(0, Relaxed);
    registers.console_len.store(5, Relaxed);
    out(doorbell::CONSOLE, 0);
}
