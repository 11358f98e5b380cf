//! Which part of a guest's address space an address belongs to.

use denali_abi::layout::{BOOT_INFORMATION, RAM_FREE_START, RAM_START, VIRTUAL_REGISTERS};
use denali_arch::image::Image;
use denali_arch::space::Access;
use serde::Serialize;

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// Below RAM: where null pointers lead.
    NullGuard,
    /// The virtual registers.
    VirtualRegisters,
    /// Boot information and arguments.
    BootInformation,
    /// The page below the stack.
    StackGuard,
    /// The stack.
    Stack,
    /// Code of the image.
    Code,
    /// Read-only data of the image.
    ReadOnlyData,
    /// Writable data of the image.
    Data,
    /// Other memory.
    Ram,
    /// At or above the end of memory.
    OutsideMemory,
}

impl RegionKind {
    /// The part that holds `address` in a guest with `memory_size` bytes of memory.
    pub fn of(address: u64, image: &Image, memory_size: u64) -> Self {
        match address {
            _ if address < RAM_START => Self::NullGuard,
            _ if address >= memory_size => Self::OutsideMemory,
            VIRTUAL_REGISTERS..BOOT_INFORMATION => Self::VirtualRegisters,
            BOOT_INFORMATION..RAM_FREE_START => Self::BootInformation,
            _ if image.stack_guard().contains(&address) => Self::StackGuard,
            _ if image.stack().contains(&address) => Self::Stack,
            _ => Self::of_image(address, image).unwrap_or(Self::Ram),
        }
    }

    fn of_image(address: u64, image: &Image) -> Option<Self> {
        let segment = image.segments.iter().find(|segment| segment.pages().contains(&address))?;
        Some(match segment.access {
            Access::ReadExecute => Self::Code,
            Access::Read => Self::ReadOnlyData,
            Access::ReadWrite => Self::Data,
        })
    }

    /// Where that is, to follow an address.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::NullGuard => "in the null guard",
            Self::VirtualRegisters => "in the virtual registers",
            Self::BootInformation => "in the boot information, which is read-only",
            Self::StackGuard => "in the guard page below the stack",
            Self::Stack => "on the stack",
            Self::Code => "in the image's code",
            Self::ReadOnlyData => "in the image's read-only data",
            Self::Data => "in the image's data",
            Self::Ram => "in free memory",
            Self::OutsideMemory => "outside memory",
        }
    }
}
