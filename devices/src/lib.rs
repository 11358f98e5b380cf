//! The devices a guest sees: the bus, the virtio transport over I/O ports, network cards, disks, consoles and
//! entropy sources.
//!
//! A device sees guest memory, an interrupt line and a back end, and nothing else. Whatever a guest
//! writes into registers, rings and descriptors is validated before use: a broken driver gets
//! `NEEDS_RESET` and silence until it resets its device; the monitor is never the one to suffer.

pub mod block;
mod bus;
pub mod console;
pub mod entropy;
pub mod net;
pub mod rate;
pub mod state;
#[cfg(test)]
mod testing;
pub mod virtio;

pub use bus::{Bus, BusFull, Service};
pub use state::{BusState, NotAtRest, StateError};

/// The line by which a device tells its guest that something happened recently.
pub trait Interrupt {
    /// Raises the line; raised several times before the guest looks, it counts as once.
    fn raise(&self);
}
