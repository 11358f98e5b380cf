//! Many pages at a time: a second thread seals those that this one has gathered, while this one gathers the next.

use crate::cluster::Clusters;
use crate::error::StoreError;
use crate::key::TAG;
use crate::manifest::{Entry, Stamp};
use crate::memory::Mapping;
use crate::region::{Options, PAGE, PAGES_MAX, PageNumber};
use crate::seal::{Sealing, Stamps};
use crate::signals;
use crate::slots::Slots;
use crate::store::{Batch, Store};
use crate::transfer::Transfers;
use denali_devices::block::BlockBackend;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, scope};

/// From so many pages on, a second thread is worth its start: 8 MiB.
pub(crate) const MANY: usize = 2048;

/// Bytes of its stack.
const STACK: usize = 64 << 10;

/// A cluster of pages that were gathered, and are sealed or about to be.
struct Job {
    /// Its buffer's number.
    id: usize,
    buffer: Mapping,
    slots: Range<u32>,
    pages: Vec<(PageNumber, Stamp)>,
    /// As many as were sealed.
    tags: Vec<[u8; TAG]>,
}

impl Job {
    fn seal(mut self, sealing: Sealing<'_>) -> Self {
        let contents = self.buffer.bytes_mut().as_chunks_mut::<PAGE>().0;
        let sealed = self.pages.iter().zip(contents);
        self.tags = sealed.map(|((page, stamp), it)| sealing.seal(*page, *stamp, it)).collect();
        self
    }
}

/// This thread's side.
struct Bulk<'a, B: BlockBackend> {
    clusters: &'a mut Clusters,
    transfers: &'a mut Transfers<B>,
    slots: &'a mut Slots,
    options: &'a Options,
    batch: &'a mut Batch,
    stamps: Stamps<'a>,
    /// Pages for which there is room.
    room: usize,
    gathered: Sender<Job>,
    sealed: Receiver<Job>,
    /// Jobs that the other thread has.
    away: usize,
}

impl<B: BlockBackend> Store<B> {
    /// Puts many pages: `gather` fills in the content of each, and says whether it is to be kept; one that is not is
    /// not put. Where there are very many, another thread seals them meanwhile.
    ///
    /// # Errors
    /// As for [`Store::put`], and what `gather` says; nothing that was put since the last flush is in the store then.
    pub fn put_all<E: From<StoreError>>(
        &mut self,
        pages: &[PageNumber],
        mut gather: impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        if self.read_only {
            self.abandon();
            return Err(StoreError::ReadOnly.into());
        }
        if let Some(page) = pages.iter().find(|page| page.0 >= PAGES_MAX) {
            self.abandon();
            return Err(StoreError::NoSuchPage(*page).into());
        }
        let put = match pages.len() {
            0..MANY => self.put_few(pages, &mut gather),
            _ => self.put_many(pages, &mut gather),
        };
        put.inspect_err(|_| self.abandon())
    }

    fn put_few<E: From<StoreError>>(
        &mut self,
        pages: &[PageNumber],
        gather: &mut impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut content = Box::new([0; PAGE]);
        for &page in pages {
            if gather(page, &mut content)? {
                self.put(page, &content)?;
            }
        }
        Ok(())
    }

    fn put_many<E: From<StoreError>>(
        &mut self,
        pages: &[PageNumber],
        gather: &mut impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let room = self.room();
        self.clusters.end(&mut self.transfers, &mut self.slots, &self.options);
        let (stamps, sealing) = self.sealer.split();
        let ((gathered, jobs), (done, sealed)) = (channel::<Job>(), channel());
        let started = scope(|scope| {
            let seal = move || {
                // Who has gone needs no more.
                let _ = jobs.into_iter().try_for_each(|job| done.send(job.seal(sealing)));
            };
            let thread = Builder::new().name("sealer".into()).stack_size(STACK);
            let start = || thread.spawn_scoped(scope, seal);
            signals::kept_for_this_thread(start).ok()?;
            let mut bulk = Bulk {
                clusters: &mut self.clusters,
                transfers: &mut self.transfers,
                slots: &mut self.slots,
                options: &self.options,
                batch: &mut self.batch,
                stamps,
                room,
                gathered,
                sealed,
                away: 0,
            };
            Some(bulk.run(pages, gather))
        });
        // A host that has no room for a thread has one do everything.
        started.unwrap_or_else(|| self.put_few(pages, gather))
    }
}

impl<B: BlockBackend> Bulk<'_, B> {
    /// Puts all of them. Whether or not that succeeds, the other thread has nothing any more.
    fn run<E: From<StoreError>>(
        &mut self,
        pages: &[PageNumber],
        gather: &mut impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let put = self.gather_all(pages, gather);
        while self.away > 0 {
            self.take_sealed(true)?;
        }
        put
    }

    fn gather_all<E: From<StoreError>>(
        &mut self,
        pages: &[PageNumber],
        gather: &mut impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut pages = pages.iter().copied();
        loop {
            let mut job = self.begin()?;
            let filled = self.fill(&mut job, &mut pages, gather);
            if filled.is_err() || job.pages.len() < job.slots.len() {
                let unused = job.slots.start + job.pages.len() as u32..job.slots.end;
                self.slots.put_back(unused);
                self.send(job)?;
                return filled;
            }
            self.send(job)?;
        }
    }

    /// Fills a cluster as far as there are pages.
    fn fill<E: From<StoreError>>(
        &mut self,
        job: &mut Job,
        pages: &mut impl Iterator<Item = PageNumber>,
        gather: &mut impl FnMut(PageNumber, &mut [u8; PAGE]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let places = job.buffer.bytes_mut().as_chunks_mut::<PAGE>().0;
        while job.pages.len() < job.slots.len()
            && let Some(page) = pages.next()
        {
            if !gather(page, &mut places[job.pages.len()])? {
                continue;
            }
            self.room = self.room.checked_sub(1).ok_or(StoreError::Full)?;
            job.pages.push((page, self.stamps.next()));
        }
        Ok(())
    }

    /// A cluster to be filled, in a buffer that is not in use.
    fn begin(&mut self) -> Result<Job, StoreError> {
        loop {
            self.take_sealed(false)?;
            if let Some((id, buffer)) = self.clusters.lend(self.transfers)? {
                let Some(slots) = self.slots.take(Clusters::PAGES) else {
                    self.clusters.give_back(id, buffer);
                    return Err(StoreError::Full);
                };
                let pages = Vec::with_capacity(slots.len());
                return Ok(Job { id, buffer, slots, pages, tags: Vec::new() });
            }
            match self.away {
                0 => self.clusters.wait(self.transfers),
                _ => self.take_sealed(true)?,
            }
        }
    }

    fn send(&mut self, job: Job) -> Result<(), StoreError> {
        self.away += 1;
        // It takes jobs for as long as this side is there.
        self.gathered.send(job).map_err(|_| StoreError::Write)
    }

    /// Has clusters written that were sealed meanwhile; waits for one.
    fn take_sealed(&mut self, wait: bool) -> Result<(), StoreError> {
        let mut wait = wait;
        while let Ok(job) = if wait {
            self.sealed.recv().map_err(drop)
        } else {
            self.sealed.try_recv().map_err(drop)
        } {
            wait = false;
            self.away -= 1;
            let Job { id, buffer, slots, pages, tags } = job;
            let sealed = (slots.start..).zip(pages.iter().zip(tags));
            for (slot, (&(page, stamp), tag)) in sealed {
                self.batch.record(page, Entry { slot, stamp, tag });
            }
            self.clusters.give_back(id, buffer);
            self.clusters.write_apart(self.transfers, self.options, id, slots.start, pages.len());
        }
        // Only a thread that is gone has nothing to be waited for.
        if wait { Err(StoreError::Write) } else { Ok(()) }
    }
}
