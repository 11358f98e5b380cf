//! Which bytes of an image are mapped from its file, so that guests share them, and which are copied.

use super::Segment;
use super::elf::slice;
use crate::space::{Access, page_down, page_up};
use denali_abi::layout::PAGE_SIZE;

/// Whole pages of the file that can be mapped read-only or executable as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// First guest address, page aligned.
    pub start: u64,
    /// End, exclusive, page aligned; the file may end within the last page.
    pub end: u64,
    /// Where `start` lies in the file, page aligned.
    pub file_offset: u64,
}

/// Bytes of the file to copy into fresh memory; `file_offset + length` is within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCopy {
    /// Guest address of the first byte.
    pub address: u64,
    /// Where it lies in the file.
    pub file_offset: u64,
    /// How many bytes; never 0.
    pub length: u64,
}

/// What to map and what to copy; everything else in memory is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadPlan {
    /// Sorted and disjoint.
    pub parts: Vec<FilePart>,
    /// Sorted and disjoint, and disjoint from `parts`.
    pub copies: Vec<FileCopy>,
}

impl LoadPlan {
    /// Plans how checked segments get into memory.
    pub fn new(bytes: &[u8], segments: &[Segment]) -> Self {
        let mut plan = Self::default();
        for (index, segment) in segments.iter().enumerate() {
            let alone = |page| {
                let mut others = segments.iter().enumerate().filter(|(other, _)| *other != index);
                !others.any(|(_, other)| other.pages().contains(&page))
            };
            plan.add(segment, mappable(bytes, segment, alone));
        }
        plan
    }

    /// Adds a segment whose pages `mapped` are mapped; what the file has around them is copied.
    fn add(&mut self, segment: &Segment, mapped: std::ops::Range<u64>) {
        let file_end = segment.address + segment.file_size;
        let offset_of = |address| segment.file_offset + address - segment.address;
        if mapped.is_empty() {
            self.copy(segment.address, segment.file_offset, segment.file_size);
            return;
        }
        let file_offset = page_down(offset_of(mapped.start.max(segment.address)));
        self.parts.push(FilePart { start: mapped.start, end: mapped.end, file_offset });
        let head = mapped.start.saturating_sub(segment.address);
        self.copy(segment.address, segment.file_offset, head);
        let tail = file_end.saturating_sub(mapped.end);
        self.copy(mapped.end, segment.file_offset + segment.file_size - tail, tail);
    }

    fn copy(&mut self, address: u64, file_offset: u64, length: u64) {
        if length > 0 {
            self.copies.push(FileCopy { address, file_offset, length });
        }
    }
}

/// The pages of `segment` that can be mapped from the file: those which the file fills, and those at
/// its ends where nothing else lies in memory and the file has only zeros around the segment.
fn mappable(bytes: &[u8], segment: &Segment, alone: impl Fn(u64) -> bool) -> std::ops::Range<u64> {
    let congruent = segment.address % PAGE_SIZE == segment.file_offset % PAGE_SIZE;
    if segment.access == Access::ReadWrite || !congruent || segment.file_size == 0 {
        return 0..0;
    }
    let file_end = segment.address + segment.file_size;
    let (first, last) = (page_down(segment.address), page_down(file_end - 1));
    let before = segment.address - first;
    let head = slice(bytes, segment.file_offset - before, before);
    let offset_end = segment.file_offset + segment.file_size;
    let after = (page_up(offset_end) - offset_end).min(bytes.len() as u64 - offset_end);
    let tail = slice(bytes, offset_end, after);
    let whole_head = is_zero(head) && alone(first);
    let whole_tail = is_zero(tail) && alone(last);
    let start = if whole_head { first } else { first + PAGE_SIZE };
    let end = if whole_tail { last + PAGE_SIZE } else { last };
    start..end
}

fn is_zero(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
}
