//! The boot information: what a guest is told once, at its start, in a read-only page.

use crate::doorbell::DEVICES_MAX;
use core::mem::{offset_of, size_of};

/// [`BootInformation::magic`]: "DENALI\0\1" read as a little-endian number.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"DENALI\0\x01");

/// Bytes of a device's name, padded with zeros.
pub const DEVICE_NAME_MAX: usize = 24;

/// The page at [`BOOT_INFORMATION`](crate::layout::BOOT_INFORMATION); RDI holds its address at entry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootInformation {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the monitor.
    pub abi_version: u32,
    /// Entries of `devices` in use.
    pub device_count: u32,
    /// End of RAM: bytes from address 0.
    pub memory_size: u64,
    /// First address of the image.
    pub image_start: u64,
    /// First address after the image, .bss included, rounded up to a page: RAM is free from here to
    /// `memory_size`, but for the stack and its guard page where the note places them there.
    pub image_end: u64,
    /// Lowest address of the stack; the page below it is the guard.
    pub stack_bottom: u64,
    /// Highest address of the stack, exclusive.
    pub stack_top: u64,
    /// Address of the argument string (UTF-8, not terminated).
    pub arguments: u64,
    /// Bytes of the argument string.
    pub arguments_len: u64,
    /// Zero.
    pub reserved: [u64; 7],
    /// The devices, in order of their numbers.
    pub devices: [DeviceEntry; DEVICES_MAX],
}

/// One attached device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Its kind: the virtio device type ([`KIND_NET`] …).
    pub kind: u32,
    /// Its number: bit in `pending`, doorbell and register file.
    pub number: u32,
    /// Its name, as the configuration gives it, padded with zeros.
    pub name: [u8; DEVICE_NAME_MAX],
    /// Network: IPv4 address in network order; 0 = none assigned.
    pub ipv4: [u8; 4],
    /// Network: IPv4 address of the gateway in network order; 0 = none.
    pub gateway: [u8; 4],
    /// Network: IPv4 address of a name server in network order; 0 = none.
    pub name_server: [u8; 4],
    /// Network: bits of the subnet's prefix.
    pub prefix_len: u8,
    /// Network: the card's hardware address; 0 = look into its configuration space.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 13],
}

/// A virtio network card.
pub const KIND_NET: u32 = 1;
/// A virtio block device.
pub const KIND_BLOCK: u32 = 2;
/// A virtio console.
pub const KIND_CONSOLE: u32 = 3;
/// A virtio entropy source.
pub const KIND_ENTROPY: u32 = 4;

/// What users call a device of this kind.
#[must_use]
pub fn kind_name(kind: u32) -> &'static str {
    match kind {
        KIND_NET => "net",
        KIND_BLOCK => "block",
        KIND_CONSOLE => "console",
        KIND_ENTROPY => "entropy",
        _ => "unknown",
    }
}

impl DeviceEntry {
    /// A table entry that is not in use.
    pub const EMPTY: Self = Self {
        kind: 0,
        number: 0,
        name: [0; DEVICE_NAME_MAX],
        ipv4: [0; 4],
        gateway: [0; 4],
        name_server: [0; 4],
        prefix_len: 0,
        mac: [0; 6],
        reserved: [0; 13],
    };

    /// The name without its padding; empty if it is not UTF-8.
    #[must_use]
    pub fn name(&self) -> &str {
        padded_str(&self.name)
    }
}

impl BootInformation {
    /// Information about nothing, to be filled in.
    pub const EMPTY: Self = Self {
        magic: BOOT_MAGIC,
        abi_version: crate::ABI_VERSION,
        device_count: 0,
        memory_size: 0,
        image_start: 0,
        image_end: 0,
        stack_bottom: 0,
        stack_top: 0,
        arguments: 0,
        arguments_len: 0,
        reserved: [0; 7],
        devices: [DeviceEntry::EMPTY; DEVICES_MAX],
    };

    /// The page as it lies in guest memory.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 4096] {
        // SAFETY: the structure is `repr(C)` of integers and byte arrays without padding (the sizes
        // asserted below are the sums of the fields'), so all its 4096 bytes are initialised.
        unsafe { &*core::ptr::from_ref(self).cast::<[u8; 4096]>() }
    }

    /// The devices that are attached.
    #[must_use]
    pub fn attached(&self) -> &[DeviceEntry] {
        &self.devices[..(self.device_count as usize).min(DEVICES_MAX)]
    }
}

/// The text before the first zero byte; empty if it is not UTF-8.
pub(crate) fn padded_str(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

const _: () = {
    assert!(size_of::<DeviceEntry>() == 64);
    assert!(size_of::<BootInformation>() == 4096);
    assert!(offset_of!(BootInformation, devices) == 128);
    assert!(offset_of!(BootInformation, arguments) == 56);
    assert!(offset_of!(DeviceEntry, ipv4) == 32);
    assert!(offset_of!(DeviceEntry, prefix_len) == 44);
};
