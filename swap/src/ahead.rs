//! Pages that are read before anybody waits for them: what a guest that wakes needs first.

use crate::error::StoreError;
use crate::manifest::Entry;
use crate::memory::Mapping;
use crate::reader::{Wanted, neighbours};
use crate::region::{Options, PAGE, PageNumber};
use crate::seal::PageSealer;
use crate::transfer::{READ_IDS, READS, Transfers};
use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use std::ops::Range;
use std::ptr::NonNull;

/// Reads that are under way.
pub(crate) struct Ahead {
    /// Memory of their own, if they go to none of somebody else's.
    buffer: Option<Mapping>,
    pages: Vec<PageNumber>,
    /// In the order of their slots. Their places are addresses.
    wanted: Vec<Wanted>,
    parts: Vec<Range<usize>>,
}

/// Where a page is to be read to.
pub(crate) type Place<'a> = dyn Fn(PageNumber) -> NonNull<[u8; PAGE]> + 'a;

/// Pages that were read ahead.
#[derive(Debug)]
pub struct Fetched {
    /// Which.
    pub pages: Vec<PageNumber>,
    /// `None`: they are where they were to be read to.
    buffer: Option<Mapping>,
}

impl Fetched {
    /// The pages' content, in their order; nothing if they were read to places of somebody else's.
    #[must_use]
    pub fn contents(&self) -> &[[u8; PAGE]] {
        let bytes = self.buffer.as_ref().map_or(&[][..], Mapping::bytes);
        let contents = bytes.as_chunks::<PAGE>().0;
        &contents[..contents.len().min(self.pages.len())]
    }
}

impl Ahead {
    /// Begins to read pages, as many as can be under way at a time: those that lie first. They go to memory of
    /// their own, or to their places.
    ///
    /// # Safety
    /// Each place is a page of its own of writable memory that stays mapped until [`Ahead::finish`] has returned or
    /// the transfers were dropped; until then nobody else touches it.
    pub(crate) unsafe fn begin<B: BlockBackend>(
        transfers: &mut Transfers<B>,
        options: &Options,
        mut wanted: Vec<Wanted>,
        place: Option<&Place<'_>>,
    ) -> Result<Self, StoreError> {
        wanted.sort_unstable_by_key(|wanted| wanted.entry.slot);
        let mut parts: Vec<Range<usize>> = Vec::new();
        while parts.len() < READS
            && let Some(part) = neighbours(&wanted, parts.last().map_or(0, |part| part.end))
        {
            parts.push(part);
        }
        wanted.truncate(parts.last().map_or(0, |part| part.end));
        let pages: Vec<PageNumber> = wanted.iter().map(|wanted| wanted.page).collect();
        let mut buffer = match place {
            Some(_) => None,
            None => Some(Mapping::populated(pages.len() * PAGE)?),
        };
        let own = buffer.as_mut().map_or(0, |buffer| buffer.bytes_mut().as_mut_ptr() as usize);
        for (index, wanted) in wanted.iter_mut().enumerate() {
            wanted.place = match place {
                Some(place) => place(wanted.page).as_ptr() as usize,
                None => own + index * PAGE,
            };
        }
        for (id, part) in READ_IDS.zip(&parts) {
            let slices = slices(&wanted[part.clone()]);
            let offset = options.slot_offset(wanted[part.start].entry.slot);
            // SAFETY: each page has a place that no other has. The buffer lives in the store behind its
            // transfers, which wait when they are dropped, and nobody looks before `finish`; other places are the
            // caller's promise.
            unsafe { transfers.submit(id, Operation::Read { offset }, &slices) };
        }
        transfers.look();
        Ok(Self { buffer, pages, wanted, parts })
    }

    /// Waits for the reads and opens what came. If that fails, all places are zeroes.
    pub(crate) fn finish<B: BlockBackend>(
        self,
        transfers: &mut Transfers<B>,
        sealer: &mut PageSealer,
    ) -> Result<Fetched, StoreError> {
        transfers.settle(READ_IDS);
        let mut failed = None;
        for (id, part) in READ_IDS.zip(&self.parts) {
            if !matches!(transfers.take(id), Some(Ok(()))) {
                failed = failed.or(Some(StoreError::Read(self.wanted[part.start].page)));
            }
        }
        let mut opened = failed.map_or(Ok(()), Err);
        for wanted in &self.wanted {
            // SAFETY: the place is a page of the buffer or what `begin` was promised, which nobody else touches,
            // and the read that had it is done.
            let content = unsafe { std::slice::from_raw_parts_mut(wanted.place as *mut u8, PAGE) };
            let Entry { stamp, tag, .. } = wanted.entry;
            if opened.is_ok() && !sealer.open(wanted.page, stamp, &tag, content) {
                opened = Err(StoreError::Page(wanted.page));
            }
        }
        if opened.is_err() {
            for wanted in &self.wanted {
                // SAFETY: as above.
                unsafe { std::ptr::write_bytes(wanted.place as *mut u8, 0, PAGE) };
            }
        }
        opened.map(|()| Fetched { pages: self.pages, buffer: self.buffer })
    }
}

/// The places of pages that one read brings; those that lie one after the other are one.
fn slices(wanted: &[Wanted]) -> Vec<HostSlice> {
    let mut slices: Vec<HostSlice> = Vec::new();
    for wanted in wanted {
        match slices.last_mut() {
            Some(last) if last.address + last.length == wanted.place => last.length += PAGE,
            _ => slices.push(HostSlice { address: wanted.place, length: PAGE }),
        }
    }
    slices
}
