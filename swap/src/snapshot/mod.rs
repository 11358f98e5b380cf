//! Snapshots: a guest as one file, of which any number of clones are started.
//!
//! Its memory section is the guest's memory from 0x100000 on, sparse, so that one private mapping of it gives
//! a clone its memory, and all clones share what they do not change through the host's page cache. It is not
//! encrypted. Whoever maps it sees to it that the file stays as it is.
//!
//! | section | content |
//! |---|---|
//! | header | one page: magic `DNLISNAP`, version, where the sections are, digests |
//! | state | vCPU, devices, interrupts; opaque here |
//! | configuration | the guest's configuration; opaque here |
//! | image | the ELF file |
//! | memory | pages at their places; zeroes are left out |
//! | map | which pages are there: their number, then runs (first page, pages) |
//!
//! All sections begin at whole pages, in this order. Numbers are little-endian. The header is written last, so
//! that a file that was not finished is no snapshot.

mod error;
mod header;
mod map;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use error::SnapshotError;
pub use header::Section;
pub use map::Run;
pub use reader::Snapshot;
pub use writer::{Contents, SnapshotWriter};
