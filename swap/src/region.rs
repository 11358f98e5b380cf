//! Where things are in a region, and the names of what is in it.

use crate::hex;
use denali_abi::layout::MEMORY_MAX;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Bytes of a page, and of a block of a region.
pub const PAGE: usize = 4096;

/// Numbers of pages are below this: guests have no memory above 4 GiB.
pub(crate) const PAGES_MAX: u32 = (MEMORY_MAX / PAGE as u64) as u32;

/// Longest state that a region can be made for, in bytes.
const STATE_LIMIT: u32 = 64 << 20;

/// Blocks of the two superblocks.
const SUPERBLOCKS: u64 = 2;

/// A page of a guest: its address / 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageNumber(pub u32);

impl fmt::Display for PageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", u64::from(self.0) * PAGE as u64)
    }
}

/// Tells guests and their regions apart: 16 random bytes, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestId(pub [u8; 16]);

impl GuestId {
    /// One that no other guest has.
    ///
    /// # Errors
    /// When the host has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        crate::key::fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for GuestId {
    type Err = NotAGuestId;

    fn from_str(text: &str) -> Result<Self, NotAGuestId> {
        hex::decode(text).map(Self).ok_or(NotAGuestId)
    }
}

/// A text is no [`GuestId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the identity of a guest is 32 hexadecimal digits")]
pub struct NotAGuestId;

/// What a region is made for; for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Pages that can be out at a time: 1 to 1,048,576.
    pub capacity: u32,
    /// Longest state of a commit, in bytes: at most 64 MiB.
    pub state_max: u32,
    /// Pages are encrypted. Otherwise they are only authenticated.
    pub encrypt: bool,
}

impl Options {
    /// Whether a region can be made for them.
    pub(crate) fn valid(&self) -> bool {
        (1..=PAGES_MAX).contains(&self.capacity) && self.state_max <= STATE_LIMIT
    }

    /// Slots: a committed state and a running guest may have all their pages out at once.
    pub(crate) fn slots(&self) -> u32 {
        2 * self.capacity
    }

    /// Bytes of a manifest area.
    fn area(&self) -> u64 {
        crate::manifest::size_max(self).next_multiple_of(PAGE as u64)
    }

    /// Position of the manifest of a commit.
    pub(crate) fn manifest_offset(&self, sequence: u64) -> u64 {
        SUPERBLOCKS * PAGE as u64 + sequence % 2 * self.area()
    }

    /// Position of a slot.
    pub(crate) fn slot_offset(&self, slot: u32) -> u64 {
        SUPERBLOCKS * PAGE as u64 + 2 * self.area() + u64::from(slot) * PAGE as u64
    }
}

/// Bytes of the linear space that a region takes: a multiple of 4096.
#[must_use]
pub fn region_size(options: &Options) -> u64 {
    let slots = 2 * u64::from(options.capacity);
    SUPERBLOCKS * PAGE as u64 + 2 * options.area() + slots * PAGE as u64
}

/// A committed state, as a registry outside the region remembers it.
///
/// Whoever knows it recognizes a region that was put back to an older state. A commit is to be remembered
/// before the next one is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Counts the commits of the region, from 1.
    pub sequence: u64,
    /// SHA-256 of the manifest as stored.
    pub root: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_region_do_not_overlap() {
        for (capacity, state_max) in [(1, 0), (1, 4096), (1000, 70_000), (PAGES_MAX, STATE_LIMIT)] {
            let options = Options { capacity, state_max, encrypt: true };
            assert!(options.valid());
            let area = options.manifest_offset(1) - options.manifest_offset(0);
            assert!(area >= crate::manifest::size_max(&options));
            assert_eq!(options.manifest_offset(0), 8192);
            assert_eq!(options.manifest_offset(2), 8192);
            assert_eq!(options.slot_offset(0), 8192 + 2 * area);
            let last = options.slot_offset(options.slots() - 1);
            assert_eq!(region_size(&options), last + 4096);
        }
        let none = Options { capacity: 0, state_max: 0, encrypt: true };
        assert!(!none.valid() && !Options { capacity: PAGES_MAX + 1, ..none }.valid());
        assert!(!Options { capacity: 1, state_max: STATE_LIMIT + 1, encrypt: true }.valid());
    }

    #[test]
    fn identities_are_read_as_they_are_shown() {
        let id = GuestId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(GuestId([1; 16]).to_string(), "01".repeat(16));
        for wrong in ["", "1", &"0".repeat(31), &"0".repeat(33), "+1010101010101010101010101010101"]
        {
            assert_eq!(wrong.parse::<GuestId>(), Err(NotAGuestId), "{wrong}");
        }
        assert_ne!(GuestId::random().unwrap(), id);
    }
}
