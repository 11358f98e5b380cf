//! The store: pages that are out, and how they go and come.

use crate::ahead::{Ahead, Fetched, Place};
use crate::cluster::Clusters;
use crate::error::StoreError;
use crate::key::WrappedKey;
use crate::locked::Locked;
use crate::manifest::Entry;
use crate::reader::{Reader, Wanted};
use crate::region::{Commit, GuestId, Options, PAGE, PAGES_MAX, PageNumber};
use crate::seal::PageSealer;
use crate::slots::Slots;
use crate::sparse::Sparse;
use crate::transfer::Transfers;
use denali_devices::block::BlockBackend;
use ring::hmac;

/// The pages of one guest that are out of its memory, in a region of a back end that nobody else uses.
///
/// Pages go in batches: each is [`put`](Self::put), and all are in the store once
/// [`flush`](Self::flush) says so. They are durable, and found again by whoever opens the region, after
/// [`commit`](Self::commit).
pub struct Store<B: BlockBackend> {
    /// First, because fields are dropped in this order: it waits for what is in flight from `clusters`.
    pub(crate) transfers: Transfers<B>,
    pub(crate) clusters: Clusters,
    pub(crate) guest: GuestId,
    pub(crate) options: Options,
    pub(crate) wrapped: Option<WrappedKey>,
    pub(crate) root: Locked<hmac::Key>,
    pub(crate) sealer: PageSealer,
    pub(crate) slots: Slots,
    /// The pages that are out.
    pub(crate) entries: Sparse<Entry>,
    /// Pages put since the last flush.
    pub(crate) batch: Batch,
    pub(crate) last: Commit,
    /// What is on the disks is not known: a commit has failed at a bad moment.
    pub(crate) read_only: bool,
    /// Behind `transfers`, which wait for it.
    ahead: Option<Ahead>,
}

/// What was put since the last flush.
#[derive(Default)]
pub(crate) struct Batch {
    entries: Sparse<Entry>,
    /// Slots of pages that were put again or forgotten meanwhile; they may be being written.
    obsolete: Vec<u32>,
}

impl Batch {
    /// A page was put.
    pub(crate) fn record(&mut self, page: PageNumber, entry: Entry) {
        if let Some(before) = self.entries.insert(page.0, entry) {
            self.obsolete.push(before.slot);
        }
    }

    fn len(&self) -> usize {
        self.entries.len() + self.obsolete.len()
    }
}

impl<B: BlockBackend> Store<B> {
    /// A store of what was committed last.
    pub(crate) fn assemble(
        transfers: Transfers<B>,
        root: Locked<hmac::Key>,
        sealer: PageSealer,
        superblock: &crate::superblock::Superblock,
        entries: Sparse<Entry>,
    ) -> Self {
        let mut slots = Slots::new(superblock.options.slots());
        for (page, entry) in entries.iter() {
            slots.own(entry.slot, PageNumber(page));
        }
        slots.commit();
        Self {
            transfers,
            clusters: Clusters::new(),
            guest: superblock.guest,
            options: superblock.options,
            wrapped: superblock.wrapped,
            root,
            sealer,
            slots,
            entries,
            batch: Batch::default(),
            last: superblock.commit,
            read_only: false,
            ahead: None,
        }
    }

    /// Seals a page and has it written soon. It is in the store once [`Store::flush`] has returned; what
    /// the store had of it before stays until then.
    ///
    /// # Errors
    /// [`StoreError::Full`] and [`StoreError::NoSuchPage`] change nothing. After any other error nothing
    /// that was put since the last flush is in the store, as after a flush that failed.
    pub fn put(&mut self, page: PageNumber, content: &[u8; PAGE]) -> Result<(), StoreError> {
        if page.0 >= PAGES_MAX {
            return Err(StoreError::NoSuchPage(page));
        }
        if self.read_only {
            self.abandon();
            return Err(StoreError::ReadOnly);
        }
        if self.room() == 0 {
            return Err(StoreError::Full);
        }
        self.put_one(page, content).inspect_err(|_| self.abandon())
    }

    /// As [`Store::put`], whether or not there is room for a page more.
    pub(crate) fn put_one(&mut self, page: PageNumber, content: &[u8]) -> Result<(), StoreError> {
        let Self { clusters, transfers, slots, options, sealer, .. } = self;
        let seal = |buffer: &mut [u8]| {
            buffer.copy_from_slice(content);
            sealer.seal(page, buffer)
        };
        let (slot, (stamp, tag)) = clusters.put(transfers, slots, options, seal)?;
        self.batch.record(page, Entry { slot, stamp, tag });
        Ok(())
    }

    /// Waits until all pages that were put are written. They are in the store then, and memory for
    /// writing is given back.
    ///
    /// # Errors
    /// When one cannot be written, none that was put since the last flush is in the store. What the store
    /// had of these pages before is still there, unless it was forgotten.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.clusters.finish(&mut self.transfers, &mut self.slots, &self.options) {
            self.abandon();
            return Err(StoreError::Write);
        }
        let batch = std::mem::take(&mut self.batch);
        for (page, &entry) in batch.entries.iter() {
            if let Some(before) = self.entries.insert(page, entry) {
                self.slots.free(before.slot);
            }
            self.slots.own(entry.slot, PageNumber(page));
        }
        batch.obsolete.iter().for_each(|&slot| self.slots.free(slot));
        Ok(())
    }

    /// Drops what was put since the last flush.
    pub(crate) fn abandon(&mut self) {
        self.clusters.finish(&mut self.transfers, &mut self.slots, &self.options);
        let batch = std::mem::take(&mut self.batch);
        batch.entries.iter().for_each(|(_, entry)| self.slots.free(entry.slot));
        batch.obsolete.iter().for_each(|&slot| self.slots.free(slot));
    }

    /// Reads pages of the store, in any order, `pages[i]` to byte `4096 * i` of `into`, which has room for
    /// exactly these. Memory that is aligned to pages saves a copy. The pages stay in the store.
    ///
    /// # Errors
    /// When a page is not in the store, cannot be read, or is not what was put: the error names it, and
    /// `into` contains zeroes.
    ///
    /// # Panics
    /// When `into` has another length.
    pub fn read(&mut self, pages: &[PageNumber], into: &mut [u8]) -> Result<(), StoreError> {
        assert_eq!(into.len(), pages.len() * PAGE, "a place for each page");
        if self.ahead.is_some() {
            // Its reads have the numbers that these need.
            let _ = self.fetched();
        }
        let want = |(place, &page): (usize, &PageNumber)| {
            let entry = self.entries.get(page.0).copied().ok_or(StoreError::Absent(page))?;
            Ok(Wanted { page, entry, place })
        };
        let wanted: Result<Vec<Wanted>, StoreError> = pages.iter().enumerate().map(want).collect();
        let wanted = wanted.inspect_err(|_| into.fill(0))?;
        Reader::read(&mut self.transfers, &mut self.sealer, &self.options, wanted, into)
    }

    /// Begins to read pages of the store, those that are not in it left out, and returns at once. They are had by
    /// [`Store::fetched`], before anything else is done with the store. Of very many scattered pages only the
    /// first are read.
    ///
    /// # Errors
    /// When the host has no memory for them.
    pub fn fetch(&mut self, pages: &[PageNumber]) -> Result<(), StoreError> {
        // SAFETY: there are no places.
        unsafe { self.fetch_from(pages, None) }
    }

    /// As [`Store::fetch`], but each page is read, and opened, at its place. If one cannot be had, all these places
    /// are zeroes.
    ///
    /// # Safety
    /// Each page has a place of its own: writable memory that stays mapped until [`Store::fetched`] has returned
    /// or the store was dropped. Until then nobody else touches it.
    ///
    /// # Errors
    /// As for [`Store::fetch`].
    pub unsafe fn fetch_to(
        &mut self,
        pages: &[PageNumber],
        place: &Place<'_>,
    ) -> Result<(), StoreError> {
        // SAFETY: the caller's.
        unsafe { self.fetch_from(pages, Some(place)) }
    }

    /// # Safety
    /// As for [`Store::fetch_to`], if there are places.
    unsafe fn fetch_from(
        &mut self,
        pages: &[PageNumber],
        place: Option<&Place<'_>>,
    ) -> Result<(), StoreError> {
        let _ = self.fetched();
        let want = |&page: &PageNumber| {
            let entry = self.entries.get(page.0).copied()?;
            Some(Wanted { page, entry, place: 0 })
        };
        let wanted: Vec<Wanted> = pages.iter().filter_map(want).collect();
        if !wanted.is_empty() {
            // SAFETY: the caller's; whatever is read ahead is waited for by `fetched`, or when the transfers
            // are dropped.
            let ahead = unsafe { Ahead::begin(&mut self.transfers, &self.options, wanted, place) };
            self.ahead = Some(ahead?);
        }
        Ok(())
    }

    /// The pages that [`Store::fetch`] has begun to read, once they are there. They stay in the store.
    ///
    /// # Errors
    /// As for [`Store::read`]; nothing is had of any page then.
    pub fn fetched(&mut self) -> Result<Option<Fetched>, StoreError> {
        let Some(ahead) = self.ahead.take() else { return Ok(None) };
        ahead.finish(&mut self.transfers, &mut self.sealer).map(Some)
    }

    /// The page is in memory again: it leaves the store, and is not put there by a flush that is still to
    /// come. The committed state keeps it.
    pub fn forget(&mut self, page: PageNumber) {
        if let Some(entry) = self.entries.remove(page.0) {
            self.slots.free(entry.slot);
        }
        if let Some(entry) = self.batch.entries.remove(page.0) {
            self.batch.obsolete.push(entry.slot);
        }
    }

    /// Whether a page is in the store.
    #[must_use]
    pub fn contains(&self, page: PageNumber) -> bool {
        self.entries.get(page.0).is_some()
    }

    /// Pages that are in the store.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no page is in the store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pages that are in the store, in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = PageNumber> {
        self.entries.iter().map(|(page, _)| PageNumber(page))
    }

    /// At most `most` pages, this one among them, that lie beside each other and can be read at one go;
    /// none if the page is not in the store.
    #[must_use]
    pub fn cluster(&self, page: PageNumber, most: usize) -> Vec<PageNumber> {
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(self.options.slots());
        let entry = self.entries.get(page.0);
        entry.map_or_else(Vec::new, |entry| self.slots.around(entry.slot, most))
    }

    /// Pages that can still be put. One that is in the store already takes room until the next flush.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.options.capacity as usize).saturating_sub(self.entries.len() + self.batch.len())
    }

    /// What it is on.
    #[must_use]
    pub fn backend(&self) -> &B {
        self.transfers.backend()
    }

    /// What was committed last; number 0 if nothing was.
    #[must_use]
    pub fn last_commit(&self) -> Commit {
        self.last
    }

    /// What the region was made for.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }
}
