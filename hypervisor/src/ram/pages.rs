//! Pages of guest RAM that leave memory and come back.

use super::{Backing, GuestRam};
use denali_abi::layout::{PAGE_SIZE, RAM_START};
use nix::fcntl::{FallocateFlags, fallocate};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use vm_memory::VolatileSlice;

/// Of Linux 5.14.
pub(super) const MADV_POPULATE_WRITE: libc::c_int = 23;

/// Bytes of a page.
pub(super) const PAGE: usize = PAGE_SIZE as usize;

/// The first page of RAM.
pub(super) const FIRST_PAGE: u32 = (RAM_START / PAGE_SIZE) as u32;

impl GuestRam {
    /// All pages of RAM.
    pub(super) fn pages(&self) -> Range<u32> {
        FIRST_PAGE..(self.space.memory_size() / PAGE_SIZE) as u32
    }

    /// Shows `look` a copy of a page. The guest and its devices should be at rest: the copy of a page that
    /// is changed meanwhile has some bytes from before, some from after.
    ///
    /// # Errors
    /// When there is no such page.
    pub fn with_page<R>(&self, page: u32, look: impl FnOnce(&[u8; PAGE]) -> R) -> io::Result<R> {
        let mut content = [0; PAGE];
        self.copy_page(page, &mut content)?;
        Ok(look(&content))
    }

    /// Copies a page, as for [`GuestRam::with_page`].
    ///
    /// # Errors
    /// When there is no such page.
    pub fn copy_page(&self, page: u32, into: &mut [u8; PAGE]) -> io::Result<()> {
        self.page(page)?.copy_to(&mut into[..]);
        Ok(())
    }

    /// Replaces a page's content, whatever the guest may do there. The guest sees it at its next look.
    ///
    /// # Errors
    /// When there is no such page, or it is a part of the image.
    pub fn fill_page(&self, page: u32, content: &[u8; PAGE]) -> io::Result<()> {
        self.place_beside_image(&(page..page.saturating_add(1)))?;
        self.page(page)?.copy_from(content);
        Ok(())
    }

    /// Has the host give pages memory at once, as those do that are about to be filled: quicker than page by
    /// page. A host that cannot leaves it to whoever fills them.
    pub fn populate(&self, pages: Range<u32>) {
        if let Ok((start, length)) = self.place_beside_image(&pages) {
            // SAFETY: the range lies in this mapping (checked), and its bytes stay as they are.
            unsafe { libc::madvise(start.as_ptr().cast(), length, MADV_POPULATE_WRITE) };
        }
    }

    /// Gives the host the memory of pages back. Whoever looks at them next, the guest included, sees
    /// what is mapped there: zeroes, or the image's or base's file again.
    ///
    /// # Errors
    /// When there are no such pages, the host refuses, or others map the memory.
    pub fn release(&self, pages: Range<u32>) -> io::Result<()> {
        let (start, length) = self.place(&pages)?;
        if length == 0 {
            return Ok(());
        }
        match (self.backing, &self.memfd) {
            (Backing::Private, _) => {
                // SAFETY: the range lies in this mapping (checked). Those who refer to it, atomics and
                // volatile slices, expect its bytes to change at any time.
                let given =
                    unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_DONTNEED) };
                if given == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
            (Backing::Shared, Some(memfd)) => {
                let hole =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let offset = u64::from(pages.start - FIRST_PAGE) * PAGE_SIZE;
                Ok(fallocate(memfd.as_fd(), hole, offset as i64, length as i64)?)
            }
            _ => Err(unsupported()),
        }
    }

    /// Where a page is mapped that is about to be filled by the host's own means, such as a disk's: pages of
    /// RAM that are no parts of the image. It stays mapped as long as this memory lives.
    ///
    /// # Errors
    /// When there is no such page, or it is a part of the image.
    pub fn host_place(&self, page: u32) -> io::Result<NonNull<[u8; PAGE]>> {
        let (start, _) = self.place_beside_image(&(page..page.saturating_add(1)))?;
        Ok(start.cast())
    }

    /// Where pages are mapped, and how many bytes they have.
    pub(super) fn place(&self, pages: &Range<u32>) -> io::Result<(NonNull<u8>, usize)> {
        let all = self.pages();
        if pages.start < all.start || pages.start > pages.end || pages.end > all.end {
            let text = format!("pages {:#x}..{:#x} are not in memory", pages.start, pages.end);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let start = self.pointer(u64::from(pages.start) * PAGE_SIZE);
        Ok((start, (pages.end - pages.start) as usize * PAGE))
    }

    /// As [`GuestRam::place`], for what is not to touch mapped parts of the image.
    pub(super) fn place_beside_image(
        &self,
        pages: &Range<u32>,
    ) -> io::Result<(NonNull<u8>, usize)> {
        let place = self.place(pages)?;
        let [start, end] = [pages.start, pages.end].map(|page| u64::from(page) * PAGE_SIZE);
        if self.has_image_part(start, end) {
            let text = format!("pages {:#x}..{:#x} are the image's", pages.start, pages.end);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(place)
    }

    fn page(&self, page: u32) -> io::Result<VolatileSlice<'_, ()>> {
        let (start, length) = self.place(&(page..page.saturating_add(1)))?;
        // SAFETY: the page lies in this mapping (checked), which lives as long as `self`, and
        // `VolatileSlice` is made for memory that others change.
        Ok(unsafe { VolatileSlice::new(start.as_ptr(), length) })
    }
}

/// Why pages of [`Backing::Exported`] memory stay where they are.
pub(super) fn unsupported() -> io::Error {
    let text = "pages cannot leave memory that processes of devices map";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Huge pages would make an idle guest's few touched pages cost megabytes.
pub(super) fn advise_small_pages(start: NonNull<u8>, length: usize) {
    // SAFETY: the range belongs to a mapping of the caller's, and the advice changes no content; it may fail
    // harmlessly where there are no huge pages.
    unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_NOHUGEPAGE) };
}
