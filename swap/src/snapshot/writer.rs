//! Writes a snapshot.

use super::error::SnapshotError;
use super::header::{CONFIGURATION_MAX, DIGEST, Header, IMAGE_MAX, RAM_MAX, STATE_MAX, Section};
use super::map::{FIRST_PAGE, Run, append, encode};
use crate::region::{PAGE, PageNumber};
use denali_abi::layout::RAM_START;
use ring::digest::{Context, Digest, SHA256};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// What a snapshot contains besides pages.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// vCPU, devices, interrupts: at most 64 MiB.
    pub state: &'a [u8],
    /// The guest's configuration: at most 1 MiB.
    pub configuration: &'a [u8],
    /// The ELF file: at most 1 GiB.
    pub image: &'a [u8],
    /// Where the guest's memory ends: an address, a multiple of 4096, above 0x100000, at most 4 GiB.
    pub memory_size: u64,
}

/// Writes a snapshot to a new file: the sections at once, pages as they come, the header at the end. What
/// is dropped before that leaves a file that is no snapshot.
pub struct SnapshotWriter<'a> {
    file: &'a File,
    header: Header,
    /// Of header, state, configuration, image and map.
    digest: Context,
    contents: Contents<'a>,
    memory_digest: Context,
    runs: Vec<Run>,
    /// The first page that may come next.
    next: u32,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins a snapshot. It writes by `pwrite` alone.
    ///
    /// # Errors
    /// When the file is not empty or cannot be written, or something is too large.
    pub fn new(file: &'a File, contents: Contents<'a>) -> Result<Self, SnapshotError> {
        let mut end = file;
        if end.seek(SeekFrom::End(0))? > 0 {
            return Err(SnapshotError::NotEmpty);
        }
        let ram = contents.memory_size.saturating_sub(RAM_START);
        if ram == 0 || ram > RAM_MAX || !ram.is_multiple_of(PAGE as u64) {
            return Err(SnapshotError::TooLarge("memory"));
        }
        let header_section = Section { offset: 0, length: PAGE as u64 };
        let state = header_section.next(size(contents.state, STATE_MAX, "state")?);
        let length = size(contents.configuration, CONFIGURATION_MAX, "configuration")?;
        let configuration = state.next(length);
        let image = configuration.next(size(contents.image, IMAGE_MAX, "image")?);
        let memory = image.next(ram);
        let memory_digest = [0; DIGEST];
        let header =
            Header { state, configuration, image, memory, map: memory.next(0), memory_digest };
        for (section, bytes) in [
            (state, contents.state),
            (configuration, contents.configuration),
            (image, contents.image),
        ] {
            file.write_all_at(bytes, section.offset)?;
        }
        Ok(Self {
            file,
            header,
            digest: Context::new(&SHA256),
            contents,
            memory_digest: Context::new(&SHA256),
            runs: Vec::new(),
            next: FIRST_PAGE,
        })
    }

    /// Writes pages that follow each other, from `first` on; those that are all zeroes are left out. Pages
    /// come in ascending order; what never comes is zeroes.
    ///
    /// # Errors
    /// When they are not after the last ones, or not inside the guest's memory; when they cannot be written.
    ///
    /// # Panics
    /// When `content` is not a number of whole pages.
    pub fn pages(&mut self, first: PageNumber, content: &[u8]) -> Result<(), SnapshotError> {
        let (pages, rest) = content.as_chunks::<PAGE>();
        assert!(rest.is_empty(), "whole pages");
        let end = u64::from(first.0) + pages.len() as u64;
        let memory_end = self.contents.memory_size / PAGE as u64;
        if first.0 < self.next || end > memory_end {
            return Err(SnapshotError::NoSuchPage(first));
        }
        self.next = end as u32;
        let mut at = first.0;
        for same in pages.chunk_by(|one, other| is_zero(one) == is_zero(other)) {
            if !is_zero(&same[0]) {
                self.write(PageNumber(at), same)?;
            }
            at += same.len() as u32;
        }
        Ok(())
    }

    fn write(&mut self, first: PageNumber, pages: &[[u8; PAGE]]) -> Result<(), SnapshotError> {
        let bytes = pages.as_flattened();
        let place = u64::from(first.0 - FIRST_PAGE) * PAGE as u64;
        self.file.write_all_at(bytes, self.header.memory.offset + place)?;
        self.memory_digest.update(bytes);
        append(&mut self.runs, Run { first, count: pages.len() as u32 });
        Ok(())
    }

    /// Writes the rest, and the header once all of it is on the disk. The snapshot is durable when this
    /// returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        let map = encode(&self.runs);
        self.header.map.length = map.len() as u64;
        self.header.memory_digest = bytes(&self.memory_digest.finish());
        self.file.write_all_at(&map, self.header.map.offset)?;
        let covered = self.header.encode();
        let Contents { state, configuration, image, .. } = self.contents;
        for part in [&covered, state, configuration, image, &map] {
            self.digest.update(part);
        }
        let mut header = [0; PAGE];
        header[..covered.len()].copy_from_slice(&covered);
        let digest = bytes(&self.digest.finish());
        header[covered.len()..covered.len() + DIGEST].copy_from_slice(&digest);
        self.file.sync_data()?;
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()?;
        Ok(())
    }
}

fn size(bytes: &[u8], most: u64, what: &'static str) -> Result<u64, SnapshotError> {
    let length = bytes.len() as u64;
    if length <= most { Ok(length) } else { Err(SnapshotError::TooLarge(what)) }
}

fn is_zero(page: &[u8; PAGE]) -> bool {
    page.as_chunks::<16>().0.iter().all(|part| u128::from_ne_bytes(*part) == 0)
}

/// A digest's bytes.
pub(super) fn bytes(digest: &Digest) -> [u8; DIGEST] {
    let mut bytes = [0; DIGEST];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
