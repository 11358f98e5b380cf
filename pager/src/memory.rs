//! The guest's memory as a pager works on it: by pages, through the userfaultfd, and never by touching it.

use crate::failure::{Failure, StartError};
use crate::pages::{Areas, HostPages};
use crate::uffd::{FAULTS, Fault, Uffd};
use denali_swap::{PAGE, PageNumber};
use std::ops::Range;

/// Guest memory, of which some ranges are registered.
#[derive(Debug)]
pub(crate) struct Memory {
    pub uffd: Uffd,
    pub pages: HostPages,
    pub areas: Areas,
}

/// What somebody waits for.
#[derive(Debug)]
pub(crate) struct Faults {
    pub pages: Vec<PageNumber>,
    /// The thread that waits for each of them.
    pub threads: Vec<u32>,
    /// One of the pages at least is to be written.
    pub write: bool,
}

impl Memory {
    /// Registers `areas`: who touches a page there that is missing waits for a pager.
    pub(crate) fn register(
        uffd: Uffd,
        pages: HostPages,
        areas: Vec<Range<PageNumber>>,
    ) -> Result<Self, StartError> {
        let areas = Areas::new(areas, &pages).ok_or(StartError::Ranges)?;
        let memory = Self { uffd, pages, areas };
        for area in memory.areas.iter() {
            let (start, length) = memory.place(area);
            // SAFETY: whoever made `pages` has promised that it is such memory; the area lies in it.
            unsafe { memory.uffd.register(start, length) }
                .map_err(StartError::host("register the guest's memory with userfaultfd"))?;
        }
        Ok(memory)
    }

    /// Makes all of it ordinary memory again: what is still missing is zeroes from here on.
    pub(crate) fn unregister(&self) -> Result<(), Failure> {
        for area in self.areas.iter() {
            let (start, length) = self.place(area);
            let what = "the guest's memory cannot be unregistered";
            self.uffd.unregister(start, length).map_err(Failure::new(what))?;
        }
        Ok(())
    }

    /// Faults that nobody has heard of before.
    pub(crate) fn faults(&self) -> Result<Faults, Failure> {
        let mut told = [Fault::default(); FAULTS];
        let count = self.uffd.faults(&mut told);
        let count = count.map_err(Failure::new("faults cannot be read"))?;
        let (pages, threads) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut faults = Faults { pages, threads, write: false };
        for Fault { address, write, thread } in &told[..count] {
            let page = self.pages.page_at(*address).ok_or_else(|| Failure {
                page: None,
                why: format!("a fault at {address:#x}, which is not the guest's"),
            })?;
            faults.pages.push(page);
            faults.threads.push(*thread);
            faults.write |= write;
        }
        Ok(faults)
    }

    /// Fills the pages from `first` on, as far as they are missing, and wakes whoever waits for them.
    pub(crate) fn fill(&self, first: PageNumber, bytes: &[u8]) -> Result<(), Failure> {
        let done = self.uffd.copy(self.address(first), bytes);
        done.map_err(Failure::of(first, "memory cannot be filled"))
    }

    /// The same with zeroes that take no memory before they are written; writing then costs more than if
    /// they had.
    pub(crate) fn zero(&self, first: PageNumber, count: usize) -> Result<(), Failure> {
        let done = self.uffd.zero(self.address(first), (count * PAGE) as u64);
        done.map_err(Failure::of(first, "memory cannot be zeroed"))
    }

    /// The host address of a page, which is one of those there are.
    pub(crate) fn address(&self, page: PageNumber) -> u64 {
        debug_assert!(self.pages.index(page).is_some());
        self.pages.address_of(page).unwrap_or_default()
    }

    /// The place of a page among those there are.
    pub(crate) fn index(&self, page: PageNumber) -> usize {
        debug_assert!(self.pages.index(page).is_some());
        self.pages.index(page).unwrap_or_default()
    }

    /// The page at a place.
    pub(crate) fn page(&self, index: usize) -> PageNumber {
        PageNumber(self.pages.all().start.0 + index as u32)
    }

    fn place(&self, area: &Range<PageNumber>) -> (u64, u64) {
        let length = u64::from(area.end.0 - area.start.0) * PAGE as u64;
        (self.address(area.start), length)
    }
}
