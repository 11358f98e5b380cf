//! Reads a snapshot, which may be anything.

use super::error::SnapshotError;
use super::header::{COVERED, DIGEST, Header, Section};
use super::map::{FIRST_PAGE, Run, decode};
use super::writer::bytes;
use crate::region::{PAGE, PageNumber};
use denali_abi::layout::RAM_START;
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at a time to be checked.
const PIECE: usize = 1 << 20;

/// A snapshot. All of it but the pages is what was written ([`Snapshot::verify`] checks these).
#[derive(Debug)]
pub struct Snapshot {
    /// vCPU, devices, interrupts.
    pub state: Vec<u8>,
    /// Where that is in the file.
    pub state_section: Section,
    /// The guest's configuration.
    pub configuration: Vec<u8>,
    /// Where the ELF file is.
    pub image: Section,
    /// Where the guest's memory is, from address 0x100000 on: at least a page, in whole pages.
    pub memory: Section,
    /// The pages that are not all zeroes, in ascending order.
    pub runs: Vec<Run>,
    memory_digest: [u8; DIGEST],
}

impl Snapshot {
    /// Reads a snapshot. It neither maps nor keeps the file.
    ///
    /// # Errors
    /// When it is none, was not finished, is damaged, or cannot be read.
    pub fn read(file: &File) -> Result<Self, SnapshotError> {
        let mut start = [0; COVERED + DIGEST];
        file.read_exact_at(&mut start, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::NotASnapshot,
            _ => SnapshotError::Host(error),
        })?;
        let mut covered = [0; COVERED];
        covered.copy_from_slice(&start[..COVERED]);
        let header = Header::decode(&covered, file.metadata()?.len())?;

        let mut digest = Context::new(&SHA256);
        digest.update(&covered);
        let state = section(file, header.state)?;
        digest.update(&state);
        let configuration = section(file, header.configuration)?;
        digest.update(&configuration);
        add(&mut digest, file, header.image)?;
        let map = section(file, header.map)?;
        digest.update(&map);
        if bytes(&digest.finish()) != start[COVERED..] {
            return Err(SnapshotError::Damaged("header, state, configuration, image or map"));
        }
        let runs = decode(&map, (header.memory.length / PAGE as u64) as u32)?;
        let Header { state: state_section, image, memory, memory_digest, .. } = header;
        Ok(Self { state, state_section, configuration, image, memory, runs, memory_digest })
    }

    /// Where the guest's memory ends: an address.
    #[must_use]
    pub fn memory_size(&self) -> u64 {
        RAM_START + self.memory.length
    }

    /// Reads the ELF file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_image(&self, file: &File) -> Result<Vec<u8>, SnapshotError> {
        section(file, self.image)
    }

    /// The position of a page of the guest in the file; `None` for one outside its memory.
    #[must_use]
    pub fn position(&self, page: PageNumber) -> Option<u64> {
        let place = u64::from(page.0.checked_sub(FIRST_PAGE)?) * PAGE as u64;
        (place < self.memory.length).then_some(self.memory.offset + place)
    }

    /// Whether a page may be other than zeroes.
    #[must_use]
    pub fn contains(&self, page: PageNumber) -> bool {
        let after = self.runs.partition_point(|run| run.first <= page);
        let run = after.checked_sub(1).map(|index| self.runs[index]);
        run.is_some_and(|run| page.0 - run.first.0 < run.count)
    }

    /// Reads all pages and checks that they are what was written. Pages that are not in the map are not
    /// looked at.
    ///
    /// # Errors
    /// When one is not, or cannot be read.
    pub fn verify(&self, file: &File) -> Result<(), SnapshotError> {
        let mut digest = Context::new(&SHA256);
        for run in &self.runs {
            let place = u64::from(run.first.0 - FIRST_PAGE) * PAGE as u64;
            let length = u64::from(run.count) * PAGE as u64;
            add(&mut digest, file, Section { offset: self.memory.offset + place, length })?;
        }
        if bytes(&digest.finish()) != self.memory_digest {
            return Err(SnapshotError::Damaged("memory"));
        }
        Ok(())
    }
}

/// The bytes of a section whose size was checked.
fn section(file: &File, section: Section) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; section.length as usize];
    file.read_exact_at(&mut bytes, section.offset)?;
    Ok(bytes)
}

/// Adds a section to a digest.
fn add(digest: &mut Context, file: &File, section: Section) -> Result<(), SnapshotError> {
    let mut piece = vec![0; PIECE.min(section.length as usize)];
    let (mut at, mut left) = (section.offset, section.length);
    while left > 0 {
        let now = left.min(PIECE as u64);
        let bytes = &mut piece[..now as usize];
        file.read_exact_at(bytes, at)?;
        digest.update(bytes);
        at += now;
        left -= now;
    }
    Ok(())
}
