//! Changes to ELF files, by the offsets of the format, to make images that must be refused.

/// Offsets in the file's header.
pub const ENTRY: usize = 24;
/// Kind of file: 2 = not relocatable.
pub const TYPE: usize = 16;
/// Processor.
pub const MACHINE: usize = 18;
/// Kind of program header: 1 = loadable, 4 = note.
pub const P_TYPE: usize = 0;
/// Access: 1 = execute, 2 = write, 4 = read.
pub const P_FLAGS: usize = 4;
/// Offset in the file.
pub const P_OFFSET: usize = 8;
/// Address in memory.
pub const P_VADDR: usize = 16;
/// Address that loaders of firmware use.
pub const P_PADDR: usize = 24;
/// Bytes in memory.
pub const P_MEMSZ: usize = 40;

const PROGRAM_HEADERS: usize = 32;
const PROGRAM_HEADER_SIZE: usize = 54;
const PROGRAM_HEADER_COUNT: usize = 56;

/// An ELF file being changed.
pub struct Elf(pub Vec<u8>);

impl Elf {
    /// Replaces a number of 1, 2, 4 or 8 bytes.
    pub fn put<const N: usize>(mut self, at: usize, value: [u8; N]) -> Self {
        self.0[at..at + N].copy_from_slice(&value);
        self
    }

    /// Replaces a field of the `index`th program header of this kind.
    pub fn put_header<const N: usize>(
        self,
        kind: u32,
        index: usize,
        field: usize,
        value: [u8; N],
    ) -> Self {
        let at = self.header(kind, index) + field;
        self.put(at, value)
    }

    /// A 64-bit field of the `index`th program header of this kind.
    pub fn header_word(&self, kind: u32, index: usize, field: usize) -> u64 {
        self.word(self.header(kind, index) + field)
    }

    fn header(&self, kind: u32, index: usize) -> usize {
        let start = self.word(PROGRAM_HEADERS) as usize;
        let size = usize::from(self.half(PROGRAM_HEADER_SIZE));
        let headers = (0..usize::from(self.half(PROGRAM_HEADER_COUNT))).map(|n| start + n * size);
        let mut of_kind = headers.filter(|&at| self.0[at..at + 4] == kind.to_le_bytes());
        of_kind.nth(index).expect("the image has such a program header")
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}
