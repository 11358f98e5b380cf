//! Why a guest was ended although it did not ask to be.

use denali_hypervisor::{Fault, Registers};

/// The end of a guest that did something that ends guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// What it did.
    pub cause: Cause,
    /// Its registers, as `Vcpu::registers` gives them.
    pub registers: Registers,
}

/// What ends a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A fault without a `fault_entry`, or on a stack that takes no frame.
    Fault(Fault),
    /// An upcall was due and the stack takes no frame.
    UpcallStack,
    /// An access to a port outside the contract.
    UnknownPort {
        /// The port.
        port: u16,
        /// OUT, not IN.
        write: bool,
    },
    /// The CONSOLE doorbell named memory the guest may not read.
    BadConsole {
        /// `console_addr`.
        address: u64,
        /// `console_len`.
        length: u64,
    },
    /// The guest cannot be continued; the text says why.
    Lost(String),
}
