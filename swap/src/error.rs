//! Why something cannot be done with a swap store.

use crate::region::{GuestId, PageNumber};
use std::io;

/// Why something cannot be done with a swap store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The host has no locked memory, no memory, or no random bytes.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// No region can be made for these options.
    #[error("a region has room for 1 to 1,048,576 pages and a state of at most 64 MiB")]
    Options,
    /// What was opened is no place for the region.
    #[error(
        "the swap files are too small, read-only, or have blocks larger than 4096 bytes; remove them"
    )]
    Unusable,
    /// There is no region.
    #[error("the swap files contain no region; remove them")]
    NoRegion,
    /// It was made by a later version of this program.
    #[error(
        "the region has format {0}, which is newer than this program; use the one that made it"
    )]
    Version(u32),
    /// It has what no version of this program has made yet.
    #[error(
        "the region has flags that this program does not know ({0:#x}); use the one that made it"
    )]
    Flags(u32),
    /// It is another guest's.
    #[error("the region belongs to guest {0}")]
    OtherGuest(GuestId),
    /// It was made for others.
    #[error("the region was made for another size, or with another choice of encryption")]
    OtherOptions,
    /// What it says of itself was not written with the guest's key.
    #[error("the region is damaged, or its key is another; its guest cannot be resumed")]
    NotAuthentic,
    /// It is whole, and nothing was ever committed.
    #[error("nothing was committed to the region")]
    Empty,
    /// It was put back to an older state.
    #[error(
        "the region is at state {found}, and state {known} is known: an old copy was put in its place"
    )]
    Replayed {
        /// Newest state of the region.
        found: u64,
        /// The state that is known.
        known: u64,
    },
    /// It is not a successor of the state that is known.
    #[error(
        "the region is at state {found}, which does not follow from the state {known} that is known"
    )]
    Forked {
        /// Newest state of the region.
        found: u64,
        /// The state that is known.
        known: u64,
    },
    /// The manifest is not what was committed.
    #[error("the manifest of the region is damaged; its guest cannot be resumed")]
    Manifest,
    /// A page is not what was put there.
    #[error("the page at {0} is damaged in the region")]
    Page(PageNumber),
    /// A page, or one after it, cannot be read.
    #[error("the page at {0} cannot be read from the region: a disk failed")]
    Read(PageNumber),
    /// The superblocks or a manifest cannot be read.
    #[error("the region cannot be read: a disk failed")]
    ReadRegion,
    /// Something cannot be written.
    #[error("the region cannot be written: a disk is full or failed")]
    Write,
    /// Disks do not say that they have what was written, or a superblock may be half written.
    #[error("the region can only be read: a disk failed to keep what was written")]
    ReadOnly,
    /// The page is not in the store.
    #[error("the page at {0} is not in the region")]
    Absent(PageNumber),
    /// There is no such page.
    #[error("a page number is below 1,048,576, and {} is not", .0.0)]
    NoSuchPage(PageNumber),
    /// As many pages are out as the region has room for.
    #[error("the region is full")]
    Full,
    /// The state is longer than the region has room for.
    #[error("a state of {length} bytes is longer than the region has room for, {max}")]
    StateTooLong {
        /// Bytes of the state.
        length: usize,
        /// Bytes there is room for.
        max: u32,
    },
}
