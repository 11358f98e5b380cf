//! A guest's image: a static ELF64 executable with a Denali note, read from bytes nobody vouches for.

mod elf;
mod error;
mod load;
mod note;
#[cfg(test)]
mod tests;

pub use error::ImageError;
pub use load::{FileCopy, FilePart};

use crate::space::{Access, AddressSpace, page_down, page_up};
use denali_abi::layout::{
    IMAGE_START, MEMORY_MAX, MEMORY_MIN, PAGE_SIZE, RAM_FREE_START, STACK_SIZE_DEFAULT,
    STACK_TOP_DEFAULT,
};
use denali_abi::note::{ImageNote, WantedDevice};
use elf::{Header, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader};
use load::LoadPlan;
use std::ops::Range;

pub(crate) use elf::{slice, u16_at, u32_at, u64_at};

/// Most loadable segments an image may have.
pub const SEGMENTS_MAX: usize = 16;

/// A checked image: its segments are sorted, disjoint, within their file and within
/// [`IMAGE_START`]` .. `[`MEMORY_MAX`], and its stack lies beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Address at which the guest starts, in an executable segment.
    pub entry: u64,
    /// What is loaded, sorted by address; at least one.
    pub segments: Vec<Segment>,
    /// What the guest needs.
    pub note: ImageNote,
    plan: LoadPlan,
}

/// A run of memory with one kind of access, filled from the file and then with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest address of the first byte.
    pub address: u64,
    /// Bytes in memory, not 0.
    pub memory_size: u64,
    /// Where its bytes start in the file.
    pub file_offset: u64,
    /// Bytes in the file, at most `memory_size`.
    pub file_size: u64,
    /// What the guest may do there.
    pub access: Access,
}

impl Segment {
    /// End address, exclusive, of the bytes themselves.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address + self.memory_size
    }

    /// The pages it touches, from the first page's address to the last one's end.
    #[must_use]
    pub fn pages(&self) -> Range<u64> {
        page_down(self.address)..page_up(self.end())
    }

    fn new(header: &ProgramHeader, file_length: u64) -> Result<Self, ImageError> {
        let (address, size) = (header.address, header.memory_size);
        if header.file_size > size {
            return Err(ImageError::FileLarger(address));
        }
        let end = address.checked_add(size).filter(|&end| end <= MEMORY_MAX);
        if address < IMAGE_START || end.is_none() {
            return Err(ImageError::OutsideMemory { address, size });
        }
        let file_end = header.file_offset.saturating_add(header.file_size);
        if file_end > file_length {
            return Err(ImageError::OutsideFile { address, end: file_end, length: file_length });
        }
        Ok(Self {
            address,
            memory_size: size,
            file_offset: header.file_offset,
            file_size: header.file_size,
            access: access(header)?,
        })
    }
}

impl Image {
    /// Reads an image from the bytes of its file; whatever they are, this ends, and does not panic.
    ///
    /// # Errors
    /// [`ImageError`] says what is wrong with the file and what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let header = Header::parse(bytes)?;
        let headers = header.program_headers(bytes)?;
        if headers.iter().any(|header| matches!(header.kind, PT_DYNAMIC | PT_INTERP)) {
            return Err(ImageError::Dynamic);
        }
        let segments = segments(&headers, bytes.len() as u64)?;
        let code = |segment: &&Segment| segment.access == Access::ReadExecute;
        let inside = |segment: &Segment| (segment.address..segment.end()).contains(&header.entry);
        if !segments.iter().filter(code).any(inside) {
            return Err(ImageError::Entry(header.entry));
        }
        let note = note::find(bytes, &headers)?;
        let plan = LoadPlan::new(bytes, &segments);
        let image = Self { entry: header.entry, segments, note, plan };
        image.check_stack()?;
        Ok(image)
    }

    /// Address of the first page of the image.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.segments.first().map_or(IMAGE_START, |segment| segment.pages().start)
    }

    /// End of the image's last page, exclusive, .bss included.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(IMAGE_START, |segment| segment.pages().end)
    }

    /// The stack: where the note places it, or the default.
    #[must_use]
    pub fn stack(&self) -> Range<u64> {
        let (top, size) = self.stack_wanted();
        top.saturating_sub(size)..top
    }

    /// The page below the stack, to which the guest has no access.
    #[must_use]
    pub fn stack_guard(&self) -> Range<u64> {
        let bottom = self.stack().start;
        bottom.saturating_sub(PAGE_SIZE)..bottom
    }

    /// Least bytes of memory with which the guest can start.
    #[must_use]
    pub fn memory_needed(&self) -> u64 {
        self.memory_wanted().0
    }

    /// The guest's address space in a memory of `memory_size` bytes.
    ///
    /// # Errors
    /// [`ImageError::MemoryTooSmall`] names how much is needed and what for;
    /// [`ImageError::Space`] when no image could have such a memory.
    pub fn address_space(&self, memory_size: u64) -> Result<AddressSpace, ImageError> {
        let (needed, why) = self.memory_wanted();
        if memory_size < needed {
            return Err(ImageError::MemoryTooSmall { why, needed, memory_size });
        }
        let mut space = AddressSpace::new(memory_size)?;
        for segment in &self.segments {
            let pages = segment.pages();
            space.set("the image", pages.start, pages.end, Some(segment.access))?;
        }
        let guard = self.stack_guard();
        space.set("the stack's guard page", guard.start, guard.end, None)?;
        Ok(space)
    }

    /// The devices the note wants that are not among `attached`, each a kind and a name. A device
    /// satisfies one wish only; a wish for any name takes what the wishes for a name leave.
    #[must_use]
    pub fn missing_devices(&self, attached: &[(u32, &str)]) -> Vec<WantedDevice> {
        let mut free: Vec<(u32, &str)> = attached.to_vec();
        let mut missing = Vec::new();
        let (any, named): (Vec<&WantedDevice>, Vec<_>) =
            self.note.wanted().iter().partition(|wanted| wanted.name().is_empty());
        for wanted in named.into_iter().chain(any) {
            let fits = |&(kind, name): &(u32, &str)| {
                kind == wanted.kind && (wanted.name().is_empty() || wanted.name() == name)
            };
            match free.iter().position(fits) {
                Some(index) => drop(free.swap_remove(index)),
                None => missing.push(*wanted),
            }
        }
        missing
    }

    /// Whole pages that may be mapped from the file instead of copied: read-only or executable, sorted
    /// and disjoint. Where the last one reaches past the end of the file it reads as zero there.
    #[must_use]
    pub fn file_parts(&self) -> &[FilePart] {
        &self.plan.parts
    }

    /// Bytes to copy from the file into memory that is zero otherwise, disjoint from
    /// [`Image::file_parts`].
    #[must_use]
    pub fn copies(&self) -> &[FileCopy] {
        &self.plan.copies
    }

    fn stack_wanted(&self) -> (u64, u64) {
        let or_default = |value, default| if value == 0 { default } else { value };
        let top = or_default(self.note.stack_top, STACK_TOP_DEFAULT);
        (top, or_default(self.note.stack_size, STACK_SIZE_DEFAULT))
    }

    /// Least bytes of memory, and what asks for so many.
    fn memory_wanted(&self) -> (u64, &'static str) {
        let wants = [
            (self.note.memory_min.next_multiple_of(PAGE_SIZE), "its note asks for that"),
            (self.stack().end, "its stack ends there"),
            (self.end(), "it ends there"),
            (MEMORY_MIN, "every guest does"),
        ];
        // Of equals the last wins: the image itself rather than the note.
        wants.into_iter().max_by_key(|(bytes, _)| *bytes).unwrap_or((MEMORY_MIN, ""))
    }

    fn check_stack(&self) -> Result<(), ImageError> {
        let (end, size) = self.stack_wanted();
        let start = end.saturating_sub(size);
        let bad = |why| Err(ImageError::BadStack { start, end, why });
        if !end.is_multiple_of(PAGE_SIZE) || !size.is_multiple_of(PAGE_SIZE) {
            return bad("is not whole pages; make stack_top and stack_size multiples of 4096");
        }
        let guard = end.checked_sub(size).and_then(|bottom| bottom.checked_sub(PAGE_SIZE));
        let Some(guard) = guard.filter(|&guard| guard >= RAM_FREE_START && end <= MEMORY_MAX)
        else {
            return bad("is not in memory with a page below it; it may use 0x104000..0x100000000");
        };
        let hit = |segment: &Segment| segment.pages().start < end && guard < segment.pages().end;
        if self.segments.iter().any(hit) {
            return bad("or the guard page below it overlaps the image; move stack_top");
        }
        Ok(())
    }
}

/// The loadable segments, sorted and checked one by one and against each other.
fn segments(headers: &[ProgramHeader], file_length: u64) -> Result<Vec<Segment>, ImageError> {
    let loaded = || headers.iter().filter(|header| header.kind == PT_LOAD);
    let found = loaded().count();
    if found > SEGMENTS_MAX {
        let (found, most) = (found as u64, SEGMENTS_MAX as u64);
        return Err(ImageError::TooMany { what: "loadable segments", found, most });
    }
    let mut segments = loaded()
        .filter(|header| header.memory_size > 0 || header.file_size > 0)
        .map(|header| Segment::new(header, file_length))
        .collect::<Result<Vec<_>, _>>()?;
    if segments.is_empty() {
        return Err(ImageError::NoSegment);
    }
    segments.sort_by_key(|segment| segment.address);
    for pair in segments.windows(2) {
        let [first, second] = [&pair[0], &pair[1]];
        if first.end() > second.address {
            return Err(ImageError::Overlap(first.address, second.address));
        }
        let shared = first.pages().end > second.pages().start;
        if shared && first.access != second.access {
            return Err(ImageError::SharedPage(first.address, second.address));
        }
    }
    Ok(segments)
}

/// What a segment's flags grant.
fn access(header: &ProgramHeader) -> Result<Access, ImageError> {
    let flag = |bit| header.flags & bit != 0;
    match (flag(PF_R), flag(PF_W), flag(PF_X)) {
        (_, true, true) => Err(ImageError::WriteExecute(header.address)),
        (_, true, false) => Ok(Access::ReadWrite),
        (_, false, true) => Ok(Access::ReadExecute),
        (true, false, false) => Ok(Access::Read),
        (false, false, false) => Err(ImageError::NoAccess(header.address)),
    }
}
