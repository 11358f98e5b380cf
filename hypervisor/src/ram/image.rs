//! The image in guest RAM: parts that are mapped from its file, and bytes that are copied.

use super::pages::MADV_POPULATE_WRITE;
use super::{Backing, GuestRam};
use crate::Error;
use crate::mapping::{map_at, read_file};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A part of the image that is mapped from its file, not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// First guest address, page aligned.
    pub start: u64,
    /// End, exclusive, page aligned.
    pub end: u64,
    /// Where `start` lies in the file, page aligned.
    pub file_offset: u64,
}

/// Bytes of the image that are copied from its file: data that the guest can write, and what shares a page
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageCopy {
    /// Guest address of the first byte.
    pub address: u64,
    /// How many.
    pub length: u64,
    /// Where they start in the file.
    pub file_offset: u64,
}

/// The image's file and what RAM has of it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) file: OwnedFd,
    pub(super) parts: Vec<ImagePart>,
    pub(super) copies: Vec<ImageCopy>,
}

impl GuestRam {
    /// Maps page-aligned parts of the image's file copy-on-write over the RAM there, so that guests of
    /// one image share its pages through the page cache; or copies them into [`Backing::Exported`] RAM.
    /// Called once, before the guest exists.
    ///
    /// # Errors
    /// When the host refuses, or a part is not aligned or outside the memory.
    pub fn map_image(
        &mut self,
        file: OwnedFd,
        parts: Vec<ImagePart>,
    ) -> std::result::Result<(), Error> {
        for part in &parts {
            let aligned = [part.start, part.end, part.file_offset].iter().all(|n| n % 4096 == 0);
            let inside = RAM_START <= part.start
                && part.start < part.end
                && part.end <= self.space.memory_size();
            if !aligned || !inside {
                return Err(Error::Misuse("an image part is not aligned or outside the memory"));
            }
            let at = self.pointer(part.start);
            let length = (part.end - part.start) as usize;
            if self.backing == Backing::Exported {
                // SAFETY: the part was checked to lie inside RAM, which is mapped writable and to
                // which no Rust reference exists.
                unsafe { read_file(file.as_fd(), part.file_offset, at, length)? };
            } else {
                map_at(Some(at), length, Some((file.as_fd(), part.file_offset)), false)?;
            }
        }
        let mapped = if self.backing == Backing::Exported { Vec::new() } else { parts };
        self.image = Some(Image { file, parts: mapped, copies: Vec::new() });
        Ok(())
    }

    /// Copies bytes of the image's file into RAM that is zero, and remembers where they came from. After
    /// [`GuestRam::map_image`], before the guest exists.
    ///
    /// # Errors
    /// When the file cannot be read, or bytes belong outside the memory.
    pub fn load_copies(&mut self, copies: Vec<ImageCopy>) -> std::result::Result<(), Error> {
        self.remember_copies(copies)?;
        let Some(image) = &self.image else { return Ok(()) };
        for copy in &image.copies {
            let (at, length) = (self.pointer(copy.address), copy.length as usize);
            // SAFETY: the bytes lie inside RAM (checked when they were remembered), which is mapped
            // writable and to which no Rust reference exists.
            unsafe { read_file(image.file.as_fd(), copy.file_offset, at, length)? };
        }
        Ok(())
    }

    /// As [`GuestRam::load_copies`], but leaves RAM as it is: for a guest whose pages come from elsewhere,
    /// and that can need the original ones.
    ///
    /// # Errors
    /// When bytes belong outside the memory, or there is no image.
    pub fn remember_copies(&mut self, copies: Vec<ImageCopy>) -> std::result::Result<(), Error> {
        let end = self.space.memory_size();
        let inside = |copy: &ImageCopy| {
            copy.address >= RAM_START
                && copy.address.checked_add(copy.length).is_some_and(|copied| copied <= end)
                && copy.file_offset.checked_add(copy.length).is_some_and(|read| read <= 1 << 62)
        };
        if !copies.iter().all(inside) {
            return Err(Error::Misuse("bytes of the image belong outside the memory"));
        }
        let image = self.image.as_mut().ok_or(Error::Misuse("there is no image to copy from"))?;
        image.copies = copies;
        Ok(())
    }

    /// The image's file and what is mapped from it.
    #[must_use]
    pub fn image(&self) -> Option<(BorrowedFd<'_>, &[ImagePart])> {
        self.image.as_ref().map(|image| (image.file.as_fd(), image.parts.as_slice()))
    }

    /// Gives the guest copies of its own of the mapped parts of its image, if they have `most` bytes at most in
    /// all, until [`GuestRam::share_image`]. They take memory, but a KVM that shadows page tables then maps
    /// eight pages at a fault: it does so ahead with pages only that could be written.
    pub fn copy_image(&self, most: u64) {
        let Some((_, parts)) = self.image() else { return };
        if parts.iter().map(|part| part.end - part.start).sum::<u64>() <= most {
            self.advise_image(MADV_POPULATE_WRITE);
        }
    }

    /// Has the guest share its image with all others again.
    pub fn share_image(&self) {
        self.advise_image(libc::MADV_DONTNEED);
    }

    /// Advises the host on the mapped parts; what it does not heed costs time or memory, and nothing else.
    fn advise_image(&self, advice: libc::c_int) {
        for part in self.image().map_or(&[][..], |(_, parts)| parts) {
            let (start, length) = (self.pointer(part.start), (part.end - part.start) as usize);
            // SAFETY: the part lies in RAM (checked when it was mapped), and no guest can write there, so
            // that its bytes are the file's before and after, whether they are copied or dropped.
            unsafe { libc::madvise(start.as_ptr().cast(), length, advice) };
        }
    }

    /// Whether a page is in a mapped part of the image.
    pub(super) fn is_image_page(&self, page: u32) -> bool {
        let start = u64::from(page) * PAGE_SIZE;
        self.has_image_part(start, start + PAGE_SIZE)
    }

    /// Whether a part of the image is mapped somewhere in `start..end`.
    pub(super) fn has_image_part(&self, start: u64, end: u64) -> bool {
        let parts = self.image.as_ref().map_or(&[][..], |image| &image.parts);
        parts.iter().any(|part| part.start < end && start < part.end)
    }
}
