//! The contract between a Denali guest and its monitor, version 1.
//!
//! Everything both sides must agree on lives here and nowhere else: the address map, the virtual
//! registers, the boot information, the doorbells, the frames of faults and upcalls, the virtio
//! register file, and exit statuses. `docs/abi.md` is the same contract in prose. The crate is
//! `no_std` and has no dependencies; sizes and offsets are asserted at compile time.
#![no_std]

pub mod boot;
pub mod doorbell;
pub mod frame;
pub mod layout;
pub mod note;
pub mod registers;
pub mod status;
pub mod virtio;

/// The version of the contract this crate describes. A monitor refuses an image whose note asks
/// for a newer one.
pub const ABI_VERSION: u32 = 1;
