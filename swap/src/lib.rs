//! The swap store: pages of a guest that left memory, in a striped, encrypted region; and [`snapshot`]s.
//!
//! A [`Store`] keeps the pages of one guest in a region of its own (`docs/swap.md` says what is where), on any
//! [`BlockBackend`](denali_devices::block::BlockBackend). All that is read from a region is taken to be somebody
//! else's until it was authenticated.
//!
//! Besides what its back end calls, a store that is open calls `mmap` and `munmap` for private anonymous memory
//! (buffers, which it has while it moves pages) and `getrandom` (a seed for each commit). Its keys are locked
//! when it is made, and unlocked by `munmap` when it is dropped. [`Store::put_all`] starts a thread of the standard
//! library, which ends before it returns. A [`snapshot::SnapshotWriter`] calls `lseek`,
//! `pwrite64` and `fdatasync`.

mod ahead;
mod bulk;
mod cluster;
mod commit;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod hex;
mod key;
mod locked;
mod manifest;
mod memory;
mod open;
mod reader;
mod region;
mod seal;
mod signals;
mod slots;
pub mod snapshot;
mod sparse;
mod store;
mod superblock;
mod transfer;

#[cfg(test)]
mod tests;

pub use ahead::Fetched;
pub use error::StoreError;
pub use key::{Key, KeyError, WrappedKey, get_ready};
pub use locked::wipe;
pub use memory::Mapping;
pub use open::{Label, Opened, Opening, peek};
pub use region::{Commit, GuestId, NotAGuestId, Options, PAGE, PageNumber, region_size};
pub use signals::kept_for_this_thread;
pub use store::Store;
