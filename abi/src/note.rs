//! The note in an image that says what the guest needs; an image without it is not a Denali guest.

use crate::boot::padded_str;
use core::mem::{offset_of, size_of};

/// Owner name of the ELF note (section `.note.denali`, segment PT_NOTE), with its final zero.
pub const NOTE_NAME: &[u8; 7] = b"Denali\0";

/// Type of the ELF note.
pub const NOTE_TYPE: u32 = 1;

/// Most devices a note can want.
pub const WANTED_MAX: usize = 8;

/// The note's description, 320 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageNote {
    /// The contract the guest was written for.
    pub abi_version: u32,
    /// Entries of `devices` in use.
    pub device_count: u32,
    /// Least bytes of memory the guest can work with (`memory_size`); 0 = what the image takes.
    pub memory_min: u64,
    /// Bytes of stack, a multiple of the page; 0 = [`STACK_SIZE_DEFAULT`](crate::layout::STACK_SIZE_DEFAULT).
    pub stack_size: u64,
    /// Highest address of the stack, exclusive; 0 = [`STACK_TOP_DEFAULT`](crate::layout::STACK_TOP_DEFAULT).
    pub stack_top: u64,
    /// Zero.
    pub reserved: [u64; 4],
    /// Devices without which the guest cannot start.
    pub devices: [WantedDevice; WANTED_MAX],
}

/// A device an image cannot do without.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedDevice {
    /// The virtio device type.
    pub kind: u32,
    /// The name it must have, padded with zeros; empty = any name.
    pub name: [u8; 28],
}

impl WantedDevice {
    /// A table entry that is not in use.
    pub const EMPTY: Self = Self { kind: 0, name: [0; 28] };

    /// A device of `kind` under any name.
    #[must_use]
    pub const fn any(kind: u32) -> Self {
        Self { kind, name: [0; 28] }
    }

    /// The name without its padding; empty = any.
    #[must_use]
    pub fn name(&self) -> &str {
        padded_str(&self.name)
    }
}

impl ImageNote {
    /// A guest that takes the defaults and wants no device.
    pub const DEFAULT: Self = Self {
        abi_version: crate::ABI_VERSION,
        device_count: 0,
        memory_min: 0,
        stack_size: 0,
        stack_top: 0,
        reserved: [0; 4],
        devices: [WantedDevice::EMPTY; WANTED_MAX],
    };

    /// The devices that are wanted.
    #[must_use]
    pub fn wanted(&self) -> &[WantedDevice] {
        &self.devices[..(self.device_count as usize).min(WANTED_MAX)]
    }
}

/// The note as it lies in the image, for a guest in Rust to put into `.note.denali`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug)]
pub struct ElfNote {
    name_size: u32,
    description_size: u32,
    note_type: u32,
    name: [u8; 8],
    description: [u8; size_of::<ImageNote>()],
}

impl ElfNote {
    /// Wraps a note for the ELF file.
    #[must_use]
    pub const fn new(note: ImageNote) -> Self {
        Self {
            name_size: NOTE_NAME.len() as u32,
            description_size: size_of::<ImageNote>() as u32,
            note_type: NOTE_TYPE,
            name: *b"Denali\0\0",
            // SAFETY: `ImageNote` is `repr(C)` of integers and byte arrays, and its size is the sum
            // of its fields' (asserted below), so it has no padding: every byte is initialised.
            description: unsafe { core::mem::transmute::<ImageNote, [u8; 320]>(note) },
        }
    }
}

const _: () = {
    assert!(size_of::<WantedDevice>() == 32);
    assert!(size_of::<ImageNote>() == 4 + 4 + 3 * 8 + 4 * 8 + 8 * 32);
    assert!(size_of::<ImageNote>() == 320);
    assert!(offset_of!(ImageNote, devices) == 64);
    assert!(size_of::<ElfNote>() == 12 + 8 + 320);
};
