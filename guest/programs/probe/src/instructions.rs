//! Doorbells as bare instructions.

use core::arch::asm;
use ilwaco::abi::doorbell;

/// Writes 32 bits to a port.
pub fn out(port: u16, value: u32) {
    // SAFETY: what a doorbell does to memory is in the contract, and the compiler is told that
    // memory may change; other ports end the guest.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) }
}

/// Reads 32 bits from a port.
pub fn input(port: u16) -> u32 {
    let value;
    // SAFETY: as for `out`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) }
    value
}

/// TERMINATE with all 32 bits, after what was printed.
pub fn terminate(status: u32) -> ! {
    ilwaco::console::flush();
    loop {
        out(doorbell::TERMINATE, status);
    }
}
