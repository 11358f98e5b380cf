//! Virtio: drivers for devices whose registers are ports and whose queues are memory.
//!
//! Queues are never notified one by one: IDLE and FLUSH process all of them with one exit.

pub(crate) mod checksum;
pub(crate) mod console;
pub(crate) mod net;
pub(crate) mod queue;
pub(crate) mod request_queue;
pub(crate) mod start;

use crate::ports;
use core::cell::Cell;
use denali_abi::doorbell::{DEVICE_REGISTERS, DEVICE_STRIDE};

vcpu_local! {
    static GIVEN: Cell<bool> = Cell::new(false);
}

/// Notes that a queue has something for its device to do.
pub(crate) fn note_given() {
    GIVEN.with(|given| given.set(true));
}

/// Whether queues were given something to do since this was last asked.
pub(crate) fn take_given() -> bool {
    GIVEN.with(|given| given.replace(false))
}

/// The register file of one device. Every access costs an exit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterFile {
    base: u16,
}

impl RegisterFile {
    /// The registers of device `number`.
    pub(crate) const fn of_device(number: u16) -> Self {
        Self { base: DEVICE_REGISTERS + number * DEVICE_STRIDE }
    }

    pub(crate) fn read(self, register: u16) -> u32 {
        ports::in32(self.base + register)
    }

    pub(crate) fn read16(self, register: u16) -> u16 {
        ports::in16(self.base + register)
    }

    pub(crate) fn write(self, register: u16, value: u32) {
        ports::out32(self.base + register, value);
    }
}
