//! Pages that are read before anybody waits for them: what a guest that wakes needs first.

use crate::error::StoreError;
use crate::memory::Mapping;
use crate::reader::{Wanted, neighbours};
use crate::region::{Options, PAGE, PageNumber};
use crate::seal::PageSealer;
use crate::transfer::{READ_IDS, READS, Transfers};
use denali_devices::block::{BlockBackend, Operation};
use denali_devices::virtio::HostSlice;
use std::ops::Range;

/// Reads that are under way into memory of their own.
pub(crate) struct Ahead {
    buffer: Mapping,
    pages: Vec<PageNumber>,
    /// In the order of their slots.
    wanted: Vec<Wanted>,
    parts: Vec<Range<usize>>,
}

/// Pages that were read ahead.
#[derive(Debug)]
pub struct Fetched {
    /// Which.
    pub pages: Vec<PageNumber>,
    buffer: Mapping,
}

impl Fetched {
    /// The pages' content, in their order.
    #[must_use]
    pub fn contents(&self) -> &[[u8; PAGE]] {
        &self.buffer.bytes().as_chunks::<PAGE>().0[..self.pages.len()]
    }
}

impl Ahead {
    /// Begins to read pages, as many as can be under way at a time: those that lie first.
    pub(crate) fn begin<B: BlockBackend>(
        transfers: &mut Transfers<B>,
        options: &Options,
        mut wanted: Vec<Wanted>,
    ) -> Result<Self, StoreError> {
        wanted.sort_unstable_by_key(|wanted| wanted.entry.slot);
        let mut parts: Vec<Range<usize>> = Vec::new();
        while parts.len() < READS
            && let Some(part) = neighbours(&wanted, parts.last().map_or(0, |part| part.end))
        {
            parts.push(part);
        }
        wanted.truncate(parts.last().map_or(0, |part| part.end));
        for (place, wanted) in wanted.iter_mut().enumerate() {
            wanted.place = place;
        }
        let pages: Vec<PageNumber> = wanted.iter().map(|wanted| wanted.page).collect();
        let mut buffer = Mapping::populated(pages.len() * PAGE)?;
        for (id, part) in READ_IDS.zip(&parts) {
            let content = &mut buffer.bytes_mut()[part.start * PAGE..part.end * PAGE];
            let slice = HostSlice { address: content.as_mut_ptr() as usize, length: content.len() };
            let offset = options.slot_offset(wanted[part.start].entry.slot);
            // SAFETY: the bytes are a part of the buffer that no other read has. The buffer lives in the store
            // behind its transfers, which wait when they are dropped, and nobody looks before `finish`.
            unsafe { transfers.submit(id, Operation::Read { offset }, &[slice]) };
        }
        transfers.look();
        Ok(Self { buffer, pages, wanted, parts })
    }

    /// Waits for the reads.
    pub(crate) fn arrive<B: BlockBackend>(
        self,
        transfers: &mut Transfers<B>,
    ) -> Result<Arrived, StoreError> {
        transfers.settle(READ_IDS);
        let mut failed = None;
        for (id, part) in READ_IDS.zip(&self.parts) {
            if !matches!(transfers.take(id), Some(Ok(()))) {
                failed = failed.or(Some(self.wanted[part.start].page));
            }
        }
        match failed {
            Some(page) => Err(StoreError::Read(page)),
            None => Ok(Arrived(self)),
        }
    }
}

/// Pages that were read, and are not open yet. Others may be read meanwhile.
pub(crate) struct Arrived(Ahead);

impl Arrived {
    /// Opens them.
    pub(crate) fn open(self, sealer: &mut PageSealer) -> Result<Fetched, StoreError> {
        let Self(mut ahead) = self;
        let contents = ahead.buffer.bytes_mut().as_chunks_mut::<PAGE>().0;
        for (wanted, content) in ahead.wanted.iter().zip(contents) {
            if !sealer.open(wanted.page, wanted.entry.stamp, &wanted.entry.tag, content) {
                return Err(StoreError::Page(wanted.page));
            }
        }
        Ok(Fetched { pages: ahead.pages, buffer: ahead.buffer })
    }
}
