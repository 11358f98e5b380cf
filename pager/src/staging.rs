//! Where staged pages are: memory as large as the guest's, in which each page has the place it has there.

use crate::failure::StartError;
use crate::mapping::Mapping;
use crate::memory::Memory;
use crate::pages::HostPages;
use crate::uffd::Moved;
use denali_swap::{PAGE, PageNumber};
use std::io;

/// Addresses for the guest's pages outside of the guest. They take memory only while pages are here, which
/// then have left the guest's: a page is moved, not copied, so that nothing the guest writes meanwhile can
/// be lost.
#[derive(Debug)]
pub(crate) struct Staging {
    pages: HostPages,
    /// Unmapped when it is dropped.
    _mapping: Mapping,
}

impl Staging {
    /// Takes addresses for all pages of `memory`.
    pub(crate) fn new(memory: &Memory) -> Result<Self, StartError> {
        let what = "map memory for staged pages";
        let length = memory.pages.count() * PAGE;
        let mapping = Mapping::new(length).map_err(StartError::host(what))?;
        let (first, count) = (memory.pages.all().start, memory.pages.count() as u32);
        // SAFETY: it is private anonymous memory that lives as long as `self`, and is referred to only
        // by what `bytes` gives, which borrows `self`.
        let pages = unsafe { HostPages::new(mapping.address(), first, count) };
        let pages = pages.ok_or(StartError::Ranges)?;
        // SAFETY: as above. The kernel moves pages only between registered ranges.
        unsafe { memory.uffd.register(mapping.address(), length as u64) }
            .map_err(StartError::host("register memory for staged pages"))?;
        Ok(Self { pages, _mapping: mapping })
    }

    /// Takes pages from the guest, from `first` on.
    pub(crate) fn take(&mut self, memory: &Memory, first: PageNumber, count: usize) -> Moved {
        let (guest, here) = (memory.address(first), self.address(first));
        // SAFETY: both ranges are such memory: the guest's by the promise of whoever made it, this one
        // because nothing borrows from `self`.
        unsafe { memory.uffd.move_pages(here, guest, (count * PAGE) as u64) }
    }

    /// Gives pages back to the guest, from `first` on, and wakes whoever waits for them.
    pub(crate) fn give(&mut self, memory: &Memory, first: PageNumber, count: usize) -> Moved {
        let (guest, here) = (memory.address(first), self.address(first));
        // SAFETY: as in `take`.
        unsafe { memory.uffd.move_pages(guest, here, (count * PAGE) as u64) }
    }

    /// The contents of a page that is here. (To look at one that is not would be to wait for oneself.)
    pub(crate) fn bytes(&self, page: PageNumber) -> &[u8; PAGE] {
        let address = self.address(page) as *const [u8; PAGE];
        // SAFETY: the page lies in this mapping, and nobody writes to it: pages are moved in and out by
        // `&mut self` only, and one that a device might still write to cannot be moved.
        unsafe { &*address }
    }

    /// Drops pages, from `first` on, and the memory they take.
    pub(crate) fn discard(&mut self, first: PageNumber, count: usize) -> io::Result<()> {
        let address = self.address(first) as *mut libc::c_void;
        // SAFETY: the range lies in this mapping, and nothing borrows from `self`.
        let done = unsafe { libc::madvise(address, count * PAGE, libc::MADV_DONTNEED) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn address(&self, page: PageNumber) -> u64 {
        debug_assert!(self.pages.index(page).is_some());
        self.pages.address_of(page).unwrap_or_default()
    }
}
