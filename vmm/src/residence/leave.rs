//! Pages leave memory: swapped out while the process stays, or written down to be parked.

use super::{REGISTERS, Residence, ResidenceError, host};
use denali_disk::Disk;
use denali_hypervisor::{GuestRam, Original};
use denali_swap::{Commit, PageNumber, Store};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::ops::Range;

impl Residence {
    /// Has the memory leave, but for the virtual registers; says how many pages are in the store then. The
    /// guest does not run, and nobody works on its memory. When it fails, everything is in memory still.
    pub(crate) fn swap_out(&mut self) -> Result<u64, ResidenceError> {
        if !self.out {
            self.settle();
            let resident = self.resident(false).inspect_err(|_| self.go_on_or_end())?;
            let written = self.write(&resident, GuestRam::original_of);
            if let Err(error) = written {
                self.take_back(&resident)?;
                // What else is out comes by fault, as before.
                self.go_on_or_end();
                return Err(error);
            }
            for run in runs(&resident) {
                // What is not released costs memory, and nothing else: it is in the store too, and is
                // brought back from there.
                let _ = self.ram.release(run);
            }
            if self.copies_image {
                self.ram.share_image();
            }
            self.out = true;
            self.counters.swapped_out += 1;
        }
        Ok(self.store()?.len() as u64)
    }

    /// Writes down everything that is in memory and commits it together with `state`: the guest can go on
    /// from there in another process, which needs the image beside that, and no snapshot. When it fails, the
    /// guest goes on here.
    pub(crate) fn park(&mut self, state: &[u8]) -> Result<Commit, ResidenceError> {
        self.settle();
        let resident = if self.out { vec![REGISTERS] } else { self.resident(true)? };
        let as_in_image = self.as_in_image.len();
        let unchanged = self.only_in_snapshot(&resident)?;
        let written = self
            .write(&resident, GuestRam::original_in_image)
            .and_then(|()| self.write_unchanged(&unchanged));
        let parked = written.and_then(|()| {
            let working_set = self.working_set.pages().to_vec();
            Ok(self.store()?.commit(state, &working_set)?)
        });
        if parked.is_ok() {
            // Whoever goes on from there need not wait until the host has taken this process apart.
            self.store()?.backend().unlock();
        } else {
            self.take_back(&resident)?;
            self.take_back(&unchanged)?;
            self.as_in_image.truncate(as_in_image);
            self.go_on_or_end();
        }
        parked
    }

    /// Pages that are elsewhere still leave the store, and what they took of it is free again.
    fn take_back(&mut self, pages: &[PageNumber]) -> Result<(), ResidenceError> {
        let store = self.store()?;
        pages.iter().for_each(|&page| store.forget(page));
        // Nothing is left in it that could fail to be written; what could not before has been said.
        let _ = store.flush();
        Ok(())
    }

    /// Leaves word in the region that the guest has ended, if somebody could go on from there.
    pub(crate) fn retire(mut self) {
        self.settle();
        if let Some(store) = self.store.take().filter(|store| store.last_commit().sequence > 0) {
            // Where it cannot be written, what was parked stays, and can go on.
            let _ = store.retire();
        }
    }

    /// The pages that are in memory and the guest's own: those it will need first in front.
    fn resident(&self, with_registers: bool) -> Result<Vec<PageNumber>, ResidenceError> {
        let resident = self.ram.resident_pages().map_err(host("find the guest's pages"))?;
        let mut there: Vec<PageNumber> = resident
            .into_iter()
            .map(PageNumber)
            .filter(|&page| with_registers || page != REGISTERS)
            .collect();
        let is_there = |page: &PageNumber| there.binary_search(page).is_ok();
        let working_set = self.working_set.pages().iter().copied();
        let first: Vec<PageNumber> = working_set.filter(is_there).collect();
        let taken: HashSet<PageNumber> = first.iter().copied().collect();
        there.retain(|page| !taken.contains(page));
        Ok(first.into_iter().chain(there).collect())
    }

    /// Pages of a clone that are as its snapshot has them, and may be other than in the image: neither in memory,
    /// as `resident` ones are, nor in the store.
    fn only_in_snapshot(
        &mut self,
        resident: &[PageNumber],
    ) -> Result<Vec<PageNumber>, ResidenceError> {
        let ram = self.ram.clone();
        if !ram.has_base() {
            return Ok(Vec::new());
        }
        let resident: HashSet<PageNumber> = resident.iter().copied().collect();
        let store = self.store()?;
        let originals = ram.pages_with_originals().chain(ram.pages_with_originals_in_image());
        let pages: BTreeSet<PageNumber> = originals
            .map(PageNumber)
            .filter(|page| !resident.contains(page) && !store.contains(*page))
            .collect();
        Ok(pages.into_iter().collect())
    }

    /// Writes pages into the store as the snapshot has them, but for those that are as in the image.
    fn write_unchanged(&mut self, pages: &[PageNumber]) -> Result<(), ResidenceError> {
        let ram = self.ram.clone();
        let store = self.store()?;
        for &page in pages {
            let unchanged = ram.original_of(page.0).map_err(host("read the snapshot"))?;
            let image = ram.original_in_image(page.0).map_err(host("read the image"))?;
            if !image.is(unchanged.content()) {
                store.put(page, unchanged.content())?;
            }
        }
        Ok(store.flush()?)
    }

    /// Writes pages that are in memory into the store; those that are as they were at first, zeroes included, take
    /// no space. `original` says how that was.
    fn write(
        &mut self,
        pages: &[PageNumber],
        original: fn(&GuestRam, u32) -> io::Result<Original>,
    ) -> Result<(), ResidenceError> {
        let ram = self.ram.clone();
        let store = self.store()?;
        let (mut as_in_image, mut unchanged) = (Vec::new(), Vec::new());
        store.put_all(pages, |page, content| {
            let original = original(&ram, page.0).map_err(host("read the image"))?;
            ram.copy_page(page.0, content).map_err(host("read the guest's memory"))?;
            let changed = !original.is(content);
            if !changed {
                unchanged.push(page);
                as_in_image.extend((!original.is_zero()).then_some(page));
            }
            Ok::<bool, ResidenceError>(changed)
        })?;
        unchanged.iter().for_each(|&page| store.forget(page));
        store.flush()?;
        self.as_in_image.extend(as_in_image);
        Ok(())
    }

    /// The store, which is here while there is no pager.
    pub(super) fn store(&mut self) -> Result<&mut Store<Disk>, ResidenceError> {
        let gone = || std::io::Error::other("a pager has the region");
        self.store.as_mut().ok_or_else(|| ResidenceError::Host("use the region", gone()))
    }
}

/// Runs of pages that follow each other, whatever order they come in.
pub(super) fn runs(pages: &[PageNumber]) -> Vec<Range<u32>> {
    let mut numbers: Vec<u32> = pages.iter().map(|page| page.0).collect();
    numbers.sort_unstable();
    let mut runs: Vec<Range<u32>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}
