//! The swap store: pages of a guest that left memory, in a striped, encrypted region.

mod cluster;
mod commit;
mod error;
pub mod hex;
mod key;
mod locked;
mod manifest;
mod memory;
mod open;
mod reader;
mod region;
mod seal;
mod slots;
mod sparse;
mod store;
mod superblock;
mod transfer;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use key::{Key, KeyError, WrappedKey};
pub use locked::wipe;
pub use open::{Label, Opened, peek};
pub use region::{Commit, GuestId, NotAGuestId, Options, PAGE, PageNumber, region_size};
pub use store::Store;
