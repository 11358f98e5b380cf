//! Reads pages from their slots and opens them: many at a time, from all disks at once.

use crate::error::StoreError;
use crate::manifest::Entry;
use crate::region::{Options, PAGE, PageNumber};
use crate::seal::PageSealer;
use crate::transfer::{READ_IDS, READS, Transfers};
use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use std::ops::Range;

/// Most pages of one read: pages that have arrived are opened while others are on their way.
const PART: usize = 32;

/// A page that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) page: PageNumber,
    pub(crate) entry: Entry,
    /// Its place: in the destination, in pages; or an address.
    pub(crate) place: usize,
}

/// The pages from number `start` on, sorted by slot, that one read brings; none behind the last.
pub(crate) fn neighbours(wanted: &[Wanted], start: usize) -> Option<Range<usize>> {
    let most = wanted.len().min(start + PART);
    let follows = |index: &usize| wanted[*index].entry.slot == wanted[*index - 1].entry.slot + 1;
    let more = (start + 1..most).take_while(follows).count();
    (start < wanted.len()).then_some(start..start + 1 + more)
}

/// Reads that are under way. When it is dropped, it waits for them.
pub(crate) struct Reader<'a, B: BlockBackend> {
    transfers: &'a mut Transfers<B>,
    sealer: &'a mut PageSealer,
    options: &'a Options,
    /// In the order of their slots.
    wanted: Vec<Wanted>,
    /// Where pages go.
    into: *mut u8,
    /// What each read that is under way reads: a range of `wanted`.
    parts: [Range<usize>; READS],
}

impl<'a, B: BlockBackend> Reader<'a, B> {
    /// Reads pages into their places, which `into` has, each once.
    ///
    /// # Errors
    /// The first page found that cannot be read or is not what it was. Nothing is in `into` then.
    pub(crate) fn read(
        transfers: &'a mut Transfers<B>,
        sealer: &'a mut PageSealer,
        options: &'a Options,
        mut wanted: Vec<Wanted>,
        into: &mut [u8],
    ) -> Result<(), StoreError> {
        assert!(wanted.iter().all(|wanted| wanted.place < into.len() / PAGE), "a place for each");
        wanted.sort_unstable_by_key(|wanted| wanted.entry.slot);
        let start = into.as_mut_ptr();
        let parts = [const { 0..0 }; READS];
        let mut reader = Self { transfers, sealer, options, wanted, into: start, parts };
        let outcome = reader.run();
        drop(reader);
        if outcome.is_err() {
            into.fill(0);
        }
        outcome
    }

    fn run(&mut self) -> Result<(), StoreError> {
        let (mut next, mut under_way) = (0, 0);
        loop {
            for id in READ_IDS {
                if next < self.wanted.len() && !self.transfers.is_busy(id) {
                    next = self.begin(id, next);
                    under_way += 1;
                }
            }
            if under_way == 0 {
                return Ok(());
            }
            self.transfers.wait_for_any(READ_IDS);
            for id in READ_IDS {
                if let Some(outcome) = self.transfers.take(id) {
                    under_way -= 1;
                    let part = std::mem::take(&mut self.parts[id - READ_IDS.start]);
                    outcome.map_err(|_| StoreError::Read(self.wanted[part.start].page))?;
                    self.open(part)?;
                }
            }
        }
    }

    /// Begins to read the pages from number `start` on whose slots are neighbours; the first that is not
    /// among them.
    fn begin(&mut self, id: usize, start: usize) -> usize {
        let end = neighbours(&self.wanted, start).map_or(start, |part| part.end);
        let slice =
            |wanted: &Wanted| HostSlice { address: self.place(wanted) as usize, length: PAGE };
        let slices: Vec<HostSlice> = self.wanted[start..end].iter().map(slice).collect();
        let offset = self.options.slot_offset(self.wanted[start].entry.slot);
        self.parts[id - READ_IDS.start] = start..end;
        // SAFETY: the places are parts of what `read` has borrowed exclusively, and it returns after this
        // was dropped, which waits for the operation. Nobody touches them before `open` does.
        unsafe { self.transfers.submit(id, Operation::Read { offset }, &slices) };
        end
    }

    fn place(&self, wanted: &Wanted) -> *mut u8 {
        // SAFETY: `read` has checked that the destination has this place.
        unsafe { self.into.add(wanted.place * PAGE) }
    }

    /// Opens pages that have arrived.
    fn open(&mut self, part: Range<usize>) -> Result<(), StoreError> {
        for index in part {
            let wanted = self.wanted[index];
            let place = self.place(&wanted);
            // SAFETY: the page is in what `read` has borrowed exclusively, and nothing that is in flight
            // has this place: the read that had it is done.
            let content = unsafe { std::slice::from_raw_parts_mut(place, PAGE) };
            let Entry { stamp, tag, .. } = wanted.entry;
            if !self.sealer.open(wanted.page, stamp, &tag, content) {
                return Err(StoreError::Page(wanted.page));
            }
        }
        Ok(())
    }
}

impl<B: BlockBackend> Drop for Reader<'_, B> {
    fn drop(&mut self) {
        self.transfers.settle(READ_IDS);
        for id in READ_IDS {
            self.transfers.take(id);
        }
    }
}
