//! I/O ports: how a guest rings a doorbell. Every access costs an exit (about 20 µs).

#[cfg(guest_image)]
mod instructions {
    use core::arch::asm;

    /// Writes 32 bits to a port.
    pub(crate) fn out32(port: u16, value: u32) {
        // SAFETY: all ports are the monitor's, which touches this guest's memory only as the
        // doorbells' contract says; the asm is a compiler barrier for memory, so that what was
        // written before is there for the monitor to see.
        unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) }
    }

    /// Reads 32 bits from a port.
    pub(crate) fn in32(port: u16) -> u32 {
        let value;
        // SAFETY: as for `out32`.
        unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) }
        value
    }

    /// Reads 16 bits from a port.
    pub(crate) fn in16(port: u16) -> u16 {
        let value;
        // SAFETY: as for `out32`.
        unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) }
        value
    }
}

#[cfg(not(guest_image))]
mod instructions {
    const NO_MONITOR: &str = "doorbells exist only inside a Denali guest";

    pub(crate) fn out32(_port: u16, _value: u32) {
        panic!("{NO_MONITOR}");
    }

    pub(crate) fn in32(_port: u16) -> u32 {
        panic!("{NO_MONITOR}");
    }

    pub(crate) fn in16(_port: u16) -> u16 {
        panic!("{NO_MONITOR}");
    }
}

pub(crate) use instructions::{in16, in32, out32};
