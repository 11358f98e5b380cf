//! Why a snapshot cannot be written or read.

use crate::region::PageNumber;
use std::io;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The host's reason.
    #[error("cannot read or write the snapshot: {0}")]
    Host(#[from] io::Error),
    /// A snapshot is written to a new file.
    #[error("a snapshot is written to an empty file")]
    NotEmpty,
    /// There is too much of something.
    #[error("the {0} is larger than a snapshot has room for")]
    TooLarge(&'static str),
    /// A guest has no such memory, or not in this order.
    #[error("the page at {0} is not after the last one written, inside the guest's memory")]
    NoSuchPage(PageNumber),
    /// The file is something else.
    #[error("the file is no snapshot, or one that was never finished; make another")]
    NotASnapshot,
    /// It was made by a later version of this program.
    #[error(
        "the snapshot has format {0}, which is newer than this program; use the one that made it"
    )]
    Version(u64),
    /// The header cannot be true.
    #[error("the snapshot is damaged: its {0} cannot be where its header says; make another")]
    Malformed(&'static str),
    /// Something is not what was written.
    #[error("the snapshot is damaged: its {0} is not what was written; make another")]
    Damaged(&'static str),
}
