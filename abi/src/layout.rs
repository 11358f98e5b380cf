//! The guest's address map: identity mapped, everything below 4 GiB.
//!
//! | range | access | content |
//! |---|---|---|
//! | `0 .. 0x10_0000` | none | null guard; the monitor's own tables |
//! | `0x10_0000 .. 0x10_1000` | read, write | virtual registers |
//! | `0x10_1000 .. 0x10_2000` | read | boot information |
//! | `0x10_2000 .. 0x10_3000` | read | argument string |
//! | `0x10_3000 .. memory_size` | read, write | RAM |
//! | the image's segments, at or above `0x20_0000` | as each segment says | image |
//! | one page below the stack | none | stack guard |

/// Bytes in a page, the unit of protection.
pub const PAGE_SIZE: u64 = 4096;

/// First address a guest may touch; everything below is the null guard.
pub const RAM_START: u64 = 0x10_0000;

/// Address of the page of [virtual registers](crate::registers::VirtualRegisters).
pub const VIRTUAL_REGISTERS: u64 = 0x10_0000;

/// Address of the [boot information](crate::boot::BootInformation), read-only, one page.
pub const BOOT_INFORMATION: u64 = 0x10_1000;

/// Address of the argument string, read-only, one page.
pub const ARGUMENTS: u64 = 0x10_2000;

/// Most bytes the argument string can have.
pub const ARGUMENTS_MAX: u64 = PAGE_SIZE;

/// First address that is plain RAM.
pub const RAM_FREE_START: u64 = 0x10_3000;

/// Lowest address at which an image segment may lie.
pub const IMAGE_START: u64 = 0x20_0000;

/// Most bytes a guest can have: all its addresses are below 4 GiB.
pub const MEMORY_MAX: u64 = 1 << 32;

/// Least bytes a guest can have: the room below the image and one page for it.
pub const MEMORY_MIN: u64 = IMAGE_START + PAGE_SIZE;

/// Where the stack ends (its highest address, exclusive) when the image's note does not say.
pub const STACK_TOP_DEFAULT: u64 = IMAGE_START;

/// Bytes of stack when the image's note does not say.
pub const STACK_SIZE_DEFAULT: u64 = 256 * 1024;

/// Bytes below RSP that belong to the interrupted code (System V ABI), which frames never touch.
pub const RED_ZONE: u64 = 128;
