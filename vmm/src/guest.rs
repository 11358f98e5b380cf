//! The guest before its first instruction: image, memory, boot information, registers.

use crate::start::StartError;
use denali_abi::boot::{BootInformation, DEVICE_NAME_MAX, DeviceEntry};
use denali_abi::frame::{GPR_RDI, GPR_RSP};
use denali_abi::layout::{ARGUMENTS, BOOT_INFORMATION};
use denali_abi::registers::NO_DEADLINE;
use denali_arch::image::Image;
use denali_hypervisor::{Backing, BareRam, GuestRam, ImageCopy, ImagePart, Registers};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::uio::pread;
use std::ffi::c_void;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// The image's file; it is sealed, so nobody changes it.
pub(crate) struct ImageFile {
    descriptor: OwnedFd,
    length: usize,
}

impl ImageFile {
    pub(crate) fn new(descriptor: OwnedFd) -> Result<Self, StartError> {
        let status = status_of(&descriptor)
            .map_err(|source| StartError::Host { what: "look at the image", source })?;
        let length = usize::try_from(status.st_size).unwrap_or(0);
        Ok(Self { descriptor, length })
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Maps the file for as long as it is looked at, so that it costs a running guest nothing.
    pub(crate) fn map(&self) -> Result<MappedImage, StartError> {
        let Some(length) = NonZeroUsize::new(self.length) else {
            return Ok(MappedImage(None));
        };
        let (rights, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
        // SAFETY: a fresh read-only mapping at a place of the kernel's choice.
        let start = unsafe { mmap(None, length, rights, flags, &self.descriptor, 0) }
            .map_err(|source| StartError::Host { what: "map the image", source })?;
        Ok(MappedImage(Some((start, length))))
    }
}

/// What the host says of an open file. By `fstat` itself, which takes no path: the C library's calls `newfstatat`,
/// which the sandbox does not have.
fn status_of(file: &OwnedFd) -> nix::Result<libc::stat> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the structure is the kernel's, and writable during the call.
    let done = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), status.as_mut_ptr()) };
    nix::errno::Errno::result(done)?;
    // SAFETY: the call has filled it in.
    Ok(unsafe { status.assume_init() })
}

/// The image's bytes, until it is dropped.
pub(crate) struct MappedImage(Option<(NonNull<c_void>, NonZeroUsize)>);

impl MappedImage {
    pub(crate) fn bytes(&self) -> &[u8] {
        let Some((start, length)) = self.0 else { return &[] };
        // SAFETY: the mapping has this length, lives as long as `self`, and does not change: the
        // launcher sealed the file against writing and truncation.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), length.get()) }
    }
}

impl Drop for MappedImage {
    fn drop(&mut self) {
        if let Some((start, length)) = self.0 {
            // SAFETY: the mapping is this one's own, and what was borrowed from it is gone. Failing, it
            // would only stay.
            let _ = unsafe { munmap(start, length.get()) };
        }
    }
}

/// The image's bytes of a guest that runs already, read anew.
pub(crate) fn read_image(ram: &GuestRam, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    if let Some((file, _)) = ram.image() {
        while let Ok(count @ 1..) = pread(file, &mut bytes[read..], read as i64) {
            read += count;
        }
    }
    bytes.truncate(read);
    bytes
}

/// Where what a guest starts with is.
pub(crate) enum Memory {
    /// In its image.
    Fresh,
    /// In its region, from which it will be brought in; also what is as in the image.
    InRegion,
    /// In a snapshot, from this place of the file on.
    InSnapshot((OwnedFd, u64)),
}

/// Makes the memory of a guest with its image loaded, of what is `mapped`, if something is.
pub(crate) fn load(
    image: &Image,
    file: ImageFile,
    (memory_size, memory): (u64, Memory),
    (backing, mapped): (Backing, Option<BareRam>),
) -> Result<GuestRam, StartError> {
    let space = image.address_space(memory_size)?;
    let mut ram = match mapped {
        Some(mapped) => GuestRam::in_place(space, mapped)?,
        None => GuestRam::new(space, backing)?,
    };
    let is_fresh = matches!(memory, Memory::Fresh);
    if let Memory::InSnapshot((file, offset)) = memory {
        ram.map_base(file, offset)?;
    }
    let parts = image.file_parts().iter().map(|part| ImagePart {
        start: part.start,
        end: part.end,
        file_offset: part.file_offset,
    });
    ram.map_image(file.descriptor, parts.collect())?;
    let copies = image.copies().iter().map(|copy| ImageCopy {
        address: copy.address,
        length: copy.length,
        file_offset: copy.file_offset,
    });
    match is_fresh {
        true => ram.load_copies(copies.collect())?,
        false => ram.remember_copies(copies.collect())?,
    }
    Ok(ram)
}

/// Writes what the guest is told at its start, and gives the registers it starts with.
pub(crate) fn prepare(
    ram: &GuestRam,
    image: &Image,
    devices: &[DeviceEntry],
    arguments: &str,
) -> Result<Registers, StartError> {
    let stack = image.stack();
    let mut boot = BootInformation {
        device_count: devices.len() as u32,
        memory_size: ram.space().memory_size(),
        image_start: image.start(),
        image_end: image.end(),
        stack_bottom: stack.start,
        stack_top: stack.end,
        arguments: ARGUMENTS,
        arguments_len: arguments.len() as u64,
        ..BootInformation::EMPTY
    };
    boot.devices[..devices.len()].copy_from_slice(devices);
    ram.load(BOOT_INFORMATION, boot.as_bytes()).map_err(|_| StartError::Memory)?;
    ram.load(ARGUMENTS, arguments.as_bytes()).map_err(|_| StartError::Memory)?;
    initialise_registers(ram)?;
    let mut registers = Registers { rip: image.entry, rflags: 2, ..Registers::default() };
    registers.gpr[GPR_RSP] = stack.end;
    registers.gpr[GPR_RDI] = BOOT_INFORMATION;
    Ok(registers)
}

fn initialise_registers(ram: &GuestRam) -> Result<(), StartError> {
    let registers = ram.registers();
    registers.abi_version.store(denali_abi::ABI_VERSION, Ordering::Relaxed);
    registers.memory_size.store(ram.space().memory_size(), Ordering::Relaxed);
    registers.generation.store(1, Ordering::Relaxed);
    registers.idle_deadline_ns.store(NO_DEADLINE, Ordering::Relaxed);
    let entropy =
        entropy().map_err(|source| StartError::Host { what: "get random bytes", source })?;
    for (word, value) in registers.entropy.iter().zip(entropy) {
        word.store(value, Ordering::Relaxed);
    }
    Ok(())
}

/// 32 random bytes of the host, as words.
pub(crate) fn entropy() -> nix::Result<[u64; 4]> {
    let mut words = [0_u64; 4];
    let length = size_of_val(&words);
    // SAFETY: the words are writable for the bytes asked for; requests this small are never cut.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), length, 0) };
    if got == length as isize { Ok(words) } else { Err(nix::Error::last()) }
}

/// Tells a guest that is a copy which devices it has, in the boot information.
pub(crate) fn tell_devices(ram: &GuestRam, devices: &[DeviceEntry]) {
    let mut boot = BootInformation::EMPTY;
    boot.devices[..devices.len()].copy_from_slice(devices);
    let at = offset_of!(BootInformation, devices);
    // Boot information is inside every guest's memory.
    let _ = ram.load(BOOT_INFORMATION + at as u64, &boot.as_bytes()[at..]);
}

/// A device's name as the boot information has it, cut at a character's border if it is too long.
pub(crate) fn padded_name(name: &str) -> [u8; DEVICE_NAME_MAX] {
    let end = (0..=name.len().min(DEVICE_NAME_MAX)).rev().find(|&end| name.is_char_boundary(end));
    let kept = &name.as_bytes()[..end.unwrap_or(0)];
    let mut padded = [0; DEVICE_NAME_MAX];
    padded[..kept.len()].copy_from_slice(kept);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_cut_between_characters() {
        assert_eq!(&padded_name("net0")[..6], b"net0\0\0");
        let long = "é".repeat(20);
        assert!(std::str::from_utf8(&padded_name(&long)).is_ok());
        assert_eq!(padded_name("abcdefghijklmnopqrstuvwx"), *b"abcdefghijklmnopqrstuvwx");
    }
}
