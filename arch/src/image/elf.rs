//! Checked reading of ELF64 structures from bytes nobody vouches for.

use super::ImageError;

/// Most program headers an image may have.
pub const PROGRAM_HEADERS_MAX: u64 = 64;

const HEADER_SIZE: u64 = 64;
const PROGRAM_HEADER_SIZE: u64 = 56;
const MACHINE_X86_64: u16 = 62;
const TYPE_EXEC: u16 = 2;
const TYPE_DYN: u16 = 3;

/// Program header type: bytes to load.
pub const PT_LOAD: u32 = 1;
/// Program header type: for the dynamic linker.
pub const PT_DYNAMIC: u32 = 2;
/// Program header type: the name of the dynamic linker.
pub const PT_INTERP: u32 = 3;
/// Program header type: notes.
pub const PT_NOTE: u32 = 4;

/// Segment flag: executable.
pub const PF_X: u32 = 1;
/// Segment flag: writable.
pub const PF_W: u32 = 2;
/// Segment flag: readable.
pub const PF_R: u32 = 4;

/// Bytes `start..start + length`, if they are all there.
pub fn slice(bytes: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let end = start.checked_add(length)?;
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// The little-endian number of `N` bytes at `offset`.
fn array<const N: usize>(bytes: &[u8], offset: u64) -> Option<[u8; N]> {
    slice(bytes, offset, N as u64)?.try_into().ok()
}

/// The 16-bit number at `offset`.
pub fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

/// The 32-bit number at `offset`.
pub fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// The 64-bit number at `offset`.
pub fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// What the file header says, as far as an image needs it.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Address at which the guest starts.
    pub entry: u64,
    program_headers: u64,
    program_header_size: u64,
    program_header_count: u64,
}

/// One program header.
#[derive(Clone, Copy, Debug)]
pub struct ProgramHeader {
    /// `PT_…`
    pub kind: u32,
    /// Set of `PF_…`.
    pub flags: u32,
    /// Where its bytes start in the file.
    pub file_offset: u64,
    /// Where they belong in memory.
    pub address: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Alignment.
    pub align: u64,
}

impl Header {
    /// Reads and checks the file header.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ImageError::NotElf);
        }
        let header = slice(bytes, 0, HEADER_SIZE)
            .ok_or_else(|| truncated("the ELF header", HEADER_SIZE, bytes))?;
        if (header[4], header[5]) != (2, 1) {
            return Err(ImageError::NotElf64);
        }
        let field = "a header field is missing";
        let half = |at| u16_at(header, at).ok_or(ImageError::Malformed(field));
        let word = |at| u64_at(header, at).ok_or(ImageError::Malformed(field));
        match half(18)? {
            MACHINE_X86_64 => {}
            other => return Err(ImageError::WrongMachine(other)),
        }
        match half(16)? {
            TYPE_EXEC => {}
            TYPE_DYN => return Err(ImageError::Dynamic),
            other => return Err(ImageError::NotExecutable(other)),
        }
        Ok(Self {
            entry: word(24)?,
            program_headers: word(32)?,
            program_header_size: u64::from(half(54)?),
            program_header_count: u64::from(half(56)?),
        })
    }

    /// Reads all program headers.
    pub fn program_headers(&self, bytes: &[u8]) -> Result<Vec<ProgramHeader>, ImageError> {
        let (count, size) = (self.program_header_count, self.program_header_size);
        if count == 0 {
            return Err(ImageError::NoSegment);
        }
        if count > PROGRAM_HEADERS_MAX {
            let what = "program headers";
            return Err(ImageError::TooMany { what, found: count, most: PROGRAM_HEADERS_MAX });
        }
        if size < PROGRAM_HEADER_SIZE {
            return Err(ImageError::Malformed("program headers are too short"));
        }
        let end = self.program_headers.saturating_add(count * size);
        let cut = || truncated("the program header table", end, bytes);
        let table = slice(bytes, self.program_headers, count * size).ok_or_else(cut)?;
        let header = |index| ProgramHeader::read(table, index * size).ok_or_else(cut);
        (0..count).map(header).collect()
    }
}

impl ProgramHeader {
    fn read(table: &[u8], at: u64) -> Option<Self> {
        Some(Self {
            kind: u32_at(table, at)?,
            flags: u32_at(table, at + 4)?,
            file_offset: u64_at(table, at + 8)?,
            address: u64_at(table, at + 16)?,
            file_size: u64_at(table, at + 32)?,
            memory_size: u64_at(table, at + 40)?,
            align: u64_at(table, at + 48)?,
        })
    }
}

fn truncated(what: &'static str, end: u64, bytes: &[u8]) -> ImageError {
    ImageError::Truncated { what, end, length: bytes.len() as u64 }
}
