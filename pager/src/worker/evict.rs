//! Paging: pages that the guest does not use leave memory, so that others can come.

use super::{CLUSTER, Worker};
use crate::backing::Backing;
use crate::failure::{Failure, StartError};
use crate::memory::Memory;
use crate::originals;
use crate::pager::Limit;
use crate::pages::runs;
use crate::staging::Staging;
use crate::wsclock::{State, WsClock};
use denali_swap::{PAGE, PageNumber};

/// What a page that was never written looks like.
static ZEROES: [u8; PAGE] = [0; PAGE];

/// What a guest with a limit needs besides.
pub(crate) struct Paging {
    clock: WsClock,
    staging: Staging,
    /// The guest's virtual time.
    time: Box<dyn Fn() -> u64 + Send>,
    /// What it was when the faults in hand were taken: to look at it is a system call.
    now_ns: u64,
    /// In ascending order.
    pinned: Vec<PageNumber>,
}

impl Paging {
    /// For a guest none of whose pages has arrived yet.
    pub(crate) fn new(memory: &Memory, limit: Limit) -> Result<Self, StartError> {
        let Limit { pages, clock: time, window_ns, mut pinned } = limit;
        if !memory.uffd.has_move() {
            return Err(StartError::NoMove);
        }
        pinned.sort_unstable();
        pinned.dedup();
        let left = pages.saturating_sub(pinned.len());
        if left < WsClock::LEAST {
            return Err(StartError::Limit(pages));
        }
        let clock = WsClock::new(memory.pages.count(), left, window_ns);
        let now_ns = time();
        Ok(Self { clock, staging: Staging::new(memory)?, time, now_ns, pinned })
    }

    /// Looks at the guest's virtual time.
    pub(super) fn look_at_time(&mut self) {
        self.now_ns = (self.time)();
    }

    /// A page has come into memory.
    pub(super) fn arrived(&mut self, index: usize, page: PageNumber) {
        if self.pinned.binary_search(&page).is_err() {
            self.clock.insert(index, self.now_ns);
        }
    }

    /// Most pages that are brought in for one fault besides it.
    pub(super) fn most_ahead(&self) -> usize {
        self.clock.most_at_once()
    }

    /// Pages in memory, pinned ones included.
    pub(super) fn resident(&self) -> u64 {
        (self.clock.resident() + self.pinned.len()) as u64
    }
}

impl<S: Backing> Worker<S> {
    /// Has so many pages leave that `wanted` can come. Only where no page can be moved, because input
    /// or output is under way in all of them, memory goes above the limit until that is over.
    pub(super) fn make_room(&mut self, wanted: usize) -> Result<(), Failure> {
        let mut tried = 0;
        while let Some(paging) = &self.paging {
            let count = paging.clock.to_evict_for(wanted);
            let before = paging.clock.resident();
            if count == 0 {
                break;
            }
            if tried > before {
                self.counters.over_limit += 1;
                break;
            }
            let left = self.evict(count)?;
            tried = if left == 0 { tried + count.min(CLUSTER) } else { 0 };
        }
        Ok(())
    }

    /// Stages pages for `brought` that have come, and has others leave ahead of need.
    pub(super) fn tidy(&mut self, brought: usize) -> Result<(), Failure> {
        let Some(paging) = &self.paging else { return Ok(()) };
        self.stage(paging.clock.to_stage(brought))?;
        let Some(paging) = &self.paging else { return Ok(()) };
        self.evict(paging.clock.to_evict(paging.now_ns))?;
        Ok(())
    }

    /// Has pages leave that were in memory before there was a pager, as far as they are too many.
    pub(super) fn trim(&mut self) -> Result<(), Failure> {
        self.make_room(0)
    }

    /// Serves a page that is in memory; false if it is not, or is none of those that leave.
    pub(super) fn serve_resident(&mut self, page: PageNumber) -> Result<bool, Failure> {
        let Some(paging) = &self.paging else { return Ok(false) };
        match paging.clock.state(self.memory.index(page)) {
            State::Out => return Ok(false),
            State::Staged => {
                self.counters.soft_faults += 1;
                let following = self.streams.fault(page, CLUSTER - 1);
                let run = self.staged_from(page, 1 + following);
                self.give(&run)?;
            }
            // Somebody else was served meanwhile, and it only remains to wake who waits; or somebody has
            // discarded it. It must not be brought in as one that is out: making room might stage it.
            State::Active => self.memory.zero(page, 1)?,
        }
        Ok(true)
    }

    /// The pages that are staged, from one that is to the first that is not, at most so many.
    fn staged_from(&self, first: PageNumber, most: usize) -> Vec<PageNumber> {
        let staged = |page: &PageNumber| {
            let index = self.memory.pages.index(*page);
            let clock = self.paging.as_ref().map(|paging| &paging.clock);
            index.zip(clock).is_some_and(|(index, clock)| clock.state(index) == State::Staged)
        };
        (first.0..).map(PageNumber).take(most).take_while(staged).collect()
    }

    /// Gives all staged pages back to the guest.
    pub(super) fn give_back(&mut self) -> Result<(), Failure> {
        let Some(paging) = &self.paging else { return Ok(()) };
        let staged = paging.clock.staged().into_iter().map(|index| self.memory.page(index));
        let mut staged: Vec<_> = staged.collect();
        staged.sort_unstable();
        runs(&staged).try_for_each(|run| self.give(&staged[run]))
    }

    /// Gives consecutive staged pages back.
    fn give(&mut self, run: &[PageNumber]) -> Result<(), Failure> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        let mut at = 0;
        while at < run.len() {
            let moved = paging.staging.give(&self.memory, run[at], run.len() - at);
            at += moved.bytes as usize / PAGE;
            let (Some(error), Some(page)) = (moved.error, run.get(at)) else { continue };
            at += 1;
            // What is not here after all is where it was; to look at it here would be to wait for oneself.
            if error.raw_os_error() != Some(libc::ENOENT) {
                // Whatever it is that cannot be moved can be copied.
                self.memory.fill(*page, paging.staging.bytes(*page))?;
                let what = "a staged page cannot be dropped";
                paging.staging.discard(*page, 1).map_err(Failure::of(*page, what))?;
            }
        }
        for page in run {
            paging.clock.used(self.memory.index(*page), paging.now_ns);
        }
        Ok(())
    }

    /// Stages so many pages, as far as they can be.
    fn stage(&mut self, count: usize) -> Result<(), Failure> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        let staged = (0..count).map_while(|_| paging.clock.stage(paging.now_ns));
        let mut pages: Vec<_> = staged.map(|index| self.memory.page(index)).collect();
        pages.sort_unstable();
        runs(&pages).try_for_each(|run| self.stage_run(&pages[run]))
    }

    fn stage_run(&mut self, run: &[PageNumber]) -> Result<(), Failure> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        let mut at = 0;
        while at < run.len() {
            let moved = paging.staging.take(&self.memory, run[at], run.len() - at);
            let count = moved.bytes as usize / PAGE;
            self.counters.staged += count as u64;
            at += count;
            let (Some(error), Some(page)) = (moved.error, run.get(at)) else { continue };
            let index = self.memory.index(*page);
            match error.raw_os_error() {
                Some(libc::EBUSY | libc::EAGAIN) => {
                    self.counters.unmovable += 1;
                    paging.clock.used(index, paging.now_ns);
                }
                // Somebody has discarded it.
                Some(libc::ENOENT) => {
                    paging.clock.remove(index);
                    self.present.remove(index);
                }
                _ => return Err(Failure::of(*page, "it cannot be taken from the guest")(error)),
            }
            at += 1;
        }
        Ok(())
    }

    /// Has so many pages leave memory, as far as they can be moved; gives how many did.
    fn evict(&mut self, count: usize) -> Result<usize, Failure> {
        let mut left = 0;
        while let Some(paging) = self.paging.as_ref().filter(|_| left < count) {
            let now = (count - left).min(CLUSTER);
            let staged = paging.clock.staged_count();
            self.stage(now.saturating_sub(staged))?;
            let gone = self.evict_staged(now)?;
            left += gone;
            if gone == 0 {
                break;
            }
        }
        Ok(left)
    }

    /// Has the pages leave that have been staged longest.
    fn evict_staged(&mut self, count: usize) -> Result<usize, Failure> {
        let Some(paging) = &self.paging else { return Ok(0) };
        // A guest that has more than it may has nowhere to leave it, and keeps it in memory.
        let room = if self.growing.is_some() { self.store.room() } else { count };
        let count = count.min(room);
        let in_use = paging.clock.in_working_set(count, paging.now_ns);
        let victims = paging.clock.victims(count).into_iter().map(|index| self.memory.page(index));
        let mut victims: Vec<_> = victims.collect();
        victims.sort_unstable();
        self.write(&victims)?;
        self.drop_staged(&victims)?;
        self.counters.evicted_in_use += in_use as u64;
        self.counters.evicted += victims.len() as u64;
        Ok(victims.len())
    }

    /// Writes staged pages to the store that would not come back by themselves.
    fn write(&mut self, victims: &[PageNumber]) -> Result<(), Failure> {
        let Some(paging) = &self.paging else { return Ok(()) };
        let mut written = 0;
        for page in victims {
            let bytes = paging.staging.bytes(*page);
            let mut original = ZEROES;
            let found = originals::read(&mut *self.originals, *page, &mut original);
            found.map_err(Failure::of(*page, "its original cannot be read"))?;
            if *bytes == original {
                continue;
            }
            if self.store.room() == 0 {
                return Err(Failure { page: Some(*page), why: FULL.into() });
            }
            let what = "it cannot be written";
            self.store.put(*page, bytes).map_err(Failure::of(*page, what))?;
            written += 1;
        }
        if written > 0 {
            self.store.flush().map_err(Failure::new("pages cannot be written"))?;
        }
        self.counters.written += written;
        Ok(())
    }

    /// Drops staged pages, in ascending order, which are somewhere else now.
    fn drop_staged(&mut self, victims: &[PageNumber]) -> Result<(), Failure> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        for run in runs(victims) {
            let run = &victims[run];
            let dropped = paging.staging.discard(run[0], run.len());
            dropped.map_err(Failure::of(run[0], "a staged page cannot be dropped"))?;
            for page in run {
                let index = self.memory.index(*page);
                paging.clock.remove(index);
                self.present.remove(index);
            }
        }
        Ok(())
    }
}

/// Why no page can leave.
const FULL: &str = "the swap region is full: set \"swap_limit\" to the memory's size less \
    \"resident_limit\", or more";
