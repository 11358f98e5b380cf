//! Why a file cannot be used as a guest's image: one line each, saying what to do about it.

use denali_abi::ABI_VERSION;
use denali_abi::layout::{IMAGE_START, MEMORY_MAX};

/// Why an image is refused. Each message reads after the file's name and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file is shorter than its own headers say.
    #[error("truncated: {what} ends at byte {end}, the file has {length}; build or copy it again")]
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Where it would end, in bytes from the start of the file.
        end: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// The file does not start as an ELF file does.
    #[error("not an ELF file; give an image linked for Denali (docs/guests.md)")]
    NotElf,
    /// A 32-bit or big-endian ELF file.
    #[error("not a 64-bit little-endian ELF file; build it for x86_64")]
    NotElf64,
    /// An ELF file for another processor.
    #[error("built for another processor ({}), not x86-64; build it for x86_64", machine_name(*.0))]
    WrongMachine(u16),
    /// A shared object, a position-independent executable, or one that wants an interpreter.
    #[error("dynamically linked or position independent; link it statically with -static -no-pie")]
    Dynamic,
    /// An object or core file.
    #[error("not an executable (ELF type {0}); link it with guest/c/denali.ld")]
    NotExecutable(u16),
    /// A header field has a value no linker writes.
    #[error("malformed ELF file: {0}; build it again")]
    Malformed(&'static str),
    /// More program headers or loadable segments than an image may have.
    #[error("{found} {what}, at most {most} are supported; link it with guest/c/denali.ld")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        most: u64,
    },
    /// Nothing to load.
    #[error("no loadable segment; link it with guest/c/denali.ld")]
    NoSegment,
    /// A segment's bytes lie outside the file.
    #[error(
        "truncated: the segment at {address:#x} ends at byte {end} of the file, which has {length}; \
         build or copy it again"
    )]
    OutsideFile {
        /// The segment's address.
        address: u64,
        /// Where its bytes would end in the file; `u64::MAX` if past every file.
        end: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// A segment has more bytes in the file than in memory.
    #[error("the segment at {0:#x} is larger in the file than in memory; build it again")]
    FileLarger(u64),
    /// A segment below or above the addresses an image may have.
    #[error(
        "the segment at {address:#x}, {size} bytes, is not within {IMAGE_START:#x}..{MEMORY_MAX:#x}; \
         link it with guest/c/denali.ld"
    )]
    OutsideMemory {
        /// The segment's address.
        address: u64,
        /// Its bytes in memory.
        size: u64,
    },
    /// A segment that is both writable and executable.
    #[error("the segment at {0:#x} is both writable and executable; separate code from data")]
    WriteExecute(u64),
    /// A segment nobody could access.
    #[error("the segment at {0:#x} is neither readable, writable nor executable; give it flags")]
    NoAccess(u64),
    /// Two segments share addresses.
    #[error("the segments at {0:#x} and {1:#x} overlap; move one in the link script")]
    Overlap(u64, u64),
    /// Two segments with different access share a page.
    #[error(
        "the segments at {0:#x} and {1:#x} share a page but differ in access; put \
         `. = ALIGN(4096);` between them in the link script"
    )]
    SharedPage(u64, u64),
    /// The entry is not in code.
    #[error("the entry {0:#x} is in no executable segment; name the entry with ENTRY(…) or -e")]
    Entry(u64),
    /// No note, so not a guest.
    #[error("no Denali note, so not a Denali guest; add one (docs/abi.md, \"The note\")")]
    NoNote,
    /// More than one note.
    #[error("more than one Denali note; keep one")]
    SeveralNotes,
    /// A note that cannot be understood.
    #[error("malformed Denali note: {0}; see docs/abi.md, \"The note\"")]
    BadNote(&'static str),
    /// The image was written for a newer contract.
    #[error("needs ABI version {0}, this monitor speaks {ABI_VERSION}: update Denali")]
    TooNew(u32),
    /// The note places the stack where it cannot be.
    #[error("the stack {start:#x}..{end:#x} in the note {why}")]
    BadStack {
        /// Lowest address of the stack.
        start: u64,
        /// Its end, exclusive.
        end: u64,
        /// What is wrong with it and what to do.
        why: &'static str,
    },
    /// The guest has less memory than its image takes.
    #[error(
        "needs {} of memory ({why}), the guest has {}: raise \"memory\"",
        Amount(*.needed), Amount(*.memory_size)
    )]
    MemoryTooSmall {
        /// What takes so much.
        why: &'static str,
        /// Least bytes of memory.
        needed: u64,
        /// Bytes the guest has.
        memory_size: u64,
    },
    /// The memory size is impossible for any image.
    #[error(transparent)]
    Space(#[from] crate::space::SpaceError),
}

/// Bytes for people: whole MiB or KiB where it is whole.
struct Amount(u64);

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// What people call a processor by its ELF number.
fn machine_name(machine: u16) -> String {
    match machine {
        3 => "32-bit x86".into(),
        40 => "32-bit Arm".into(),
        183 => "AArch64".into(),
        243 => "RISC-V".into(),
        other => format!("ELF machine {other}"),
    }
}
