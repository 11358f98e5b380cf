//! The header of a snapshot: where its sections are, and what they must be.

use super::error::SnapshotError;
use crate::region::PAGE;
use denali_abi::layout::{MEMORY_MAX, RAM_START};

const MAGIC: [u8; 8] = *b"DNLISNAP";
const VERSION: u64 = 1;

/// Bytes of the header that its digest covers.
pub(super) const COVERED: usize = 16 + SECTIONS * 16 + DIGEST;
/// Bytes of a digest (SHA-256).
pub(super) const DIGEST: usize = 32;

const SECTIONS: usize = 5;

/// Largest state, in bytes.
pub(super) const STATE_MAX: u64 = 64 << 20;
/// Largest configuration, in bytes.
pub(super) const CONFIGURATION_MAX: u64 = 1 << 20;
/// Largest image, in bytes.
pub(super) const IMAGE_MAX: u64 = 1 << 30;
/// Largest memory, in bytes.
pub(super) const RAM_MAX: u64 = MEMORY_MAX - RAM_START;
/// Largest map, in bytes: its count, and a run for every other page.
const MAP_MAX: u64 = 8 + (RAM_MAX / PAGE as u64).div_ceil(2) * 8;

/// A part of a snapshot's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Position in the file: a multiple of 4096.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Section {
    pub(super) fn end(self) -> u64 {
        self.offset + self.length
    }

    /// A section behind this one.
    pub(super) fn next(self, length: u64) -> Self {
        Self { offset: self.end().next_multiple_of(PAGE as u64), length }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) state: Section,
    pub(super) configuration: Section,
    pub(super) image: Section,
    pub(super) memory: Section,
    pub(super) map: Section,
    /// Digest of the pages that are there, in ascending order.
    pub(super) memory_digest: [u8; DIGEST],
}

impl Header {
    fn sections(&self) -> [(&'static str, Section, u64); SECTIONS] {
        [
            ("state", self.state, STATE_MAX),
            ("configuration", self.configuration, CONFIGURATION_MAX),
            ("image", self.image, IMAGE_MAX),
            ("memory", self.memory, RAM_MAX),
            ("map", self.map, MAP_MAX),
        ]
    }

    /// The bytes that its digest covers.
    pub(super) fn encode(&self) -> [u8; COVERED] {
        let mut bytes = [0; COVERED];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&VERSION.to_le_bytes());
        for ((_, section, _), bytes) in self.sections().iter().zip(bytes[16..].chunks_mut(16)) {
            bytes[..8].copy_from_slice(&section.offset.to_le_bytes());
            bytes[8..].copy_from_slice(&section.length.to_le_bytes());
        }
        bytes[COVERED - DIGEST..].copy_from_slice(&self.memory_digest);
        bytes
    }

    /// What a file of `file_length` bytes says that begins like this. Its sections are in order, apart from
    /// each other, inside the file, and no larger than they may be.
    pub(super) fn decode(bytes: &[u8; COVERED], file_length: u64) -> Result<Self, SnapshotError> {
        if bytes[..8] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let version = u64_at(bytes, 8);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let section = |index: usize| Section {
            offset: u64_at(bytes, 16 + 16 * index),
            length: u64_at(bytes, 24 + 16 * index),
        };
        let mut memory_digest = [0; DIGEST];
        memory_digest.copy_from_slice(&bytes[COVERED - DIGEST..]);
        let header = Self {
            state: section(0),
            configuration: section(1),
            image: section(2),
            memory: section(3),
            map: section(4),
            memory_digest,
        };
        header.validate(file_length)?;
        Ok(header)
    }

    fn validate(&self, file_length: u64) -> Result<(), SnapshotError> {
        let mut reached = PAGE as u64;
        for (name, section, most) in self.sections() {
            let end = section.offset.checked_add(section.length);
            let inside = end.is_some_and(|end| end <= file_length) && section.offset >= reached;
            let aligned = section.offset.is_multiple_of(PAGE as u64);
            if !inside || !aligned || section.length > most {
                return Err(SnapshotError::Malformed(name));
            }
            reached = section.end();
        }
        if self.memory.length == 0 || !self.memory.length.is_multiple_of(PAGE as u64) {
            return Err(SnapshotError::Malformed("memory"));
        }
        Ok(())
    }
}

fn u64_at(bytes: &[u8; COVERED], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
