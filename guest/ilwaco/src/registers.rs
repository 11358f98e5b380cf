//! The virtual registers and the boot information: memory shared with the monitor.

use denali_abi::boot::{BootInformation, DeviceEntry};
use denali_abi::registers::VirtualRegisters;

/// The virtual registers. Reading or writing them never exits.
#[must_use]
pub fn virtual_registers() -> &'static VirtualRegisters {
    #[cfg(guest_image)]
    {
        let address = denali_abi::layout::VIRTUAL_REGISTERS as *const VirtualRegisters;
        // SAFETY: the monitor maps this page readable and writable for the guest's whole life;
        // every field is an atomic integer, so that the monitor may change it at any time.
        unsafe { &*address }
    }
    #[cfg(not(guest_image))]
    host::virtual_registers()
}

/// What the monitor told this guest at its start. Of a network card's addresses this may be out of date: ask
/// [`current`].
#[must_use]
pub fn boot_information() -> &'static BootInformation {
    #[cfg(guest_image)]
    {
        let address = denali_abi::layout::BOOT_INFORMATION as *const BootInformation;
        // SAFETY: the monitor fills this page before the guest starts; it is made of integers and byte
        // arrays, for which every value is valid. Of what is in it only addresses of network cards
        // ever change, in a copy of the guest, and `current` reads those as volatile.
        unsafe { &*address }
    }
    #[cfg(not(guest_image))]
    &BootInformation::EMPTY
}

/// The argument string of this guest; empty if there is none.
#[must_use]
pub fn arguments() -> &'static str {
    let boot = boot_information();
    if boot.arguments_len == 0 {
        return "";
    }
    let start = boot.arguments as *const u8;
    // SAFETY: the monitor says where the string lies and how long it is; it lies in a page that is
    // read-only for the guest's whole life.
    let bytes = unsafe { core::slice::from_raw_parts(start, boot.arguments_len as usize) };
    core::str::from_utf8(bytes).unwrap_or("")
}

/// The attached devices of a kind (`abi::boot::KIND_NET` …), in order of their numbers.
pub fn devices(kind: u32) -> impl Iterator<Item = &'static DeviceEntry> {
    boot_information().attached().iter().filter(move |device| device.kind == kind)
}

/// What a device's entry says now. The addresses of a network card are others than before when this guest is
/// a copy of the one that looked last.
#[must_use]
pub fn current(device: &'static DeviceEntry) -> DeviceEntry {
    // SAFETY: the reference is to an entry, for whose fields every value is valid; the read is volatile,
    // because the monitor may have changed addresses while the guest did not run.
    unsafe { core::ptr::from_ref(device).read_volatile() }
}

#[cfg(not(guest_image))]
mod host {
    use super::VirtualRegisters;
    use std::sync::OnceLock;

    /// Registers of no monitor: all zero.
    pub(super) fn virtual_registers() -> &'static VirtualRegisters {
        static REGISTERS: OnceLock<VirtualRegisters> = OnceLock::new();
        // SAFETY: the registers are integers and atomic integers, for which all-zero is valid.
        REGISTERS.get_or_init(|| unsafe { core::mem::zeroed() })
    }
}
