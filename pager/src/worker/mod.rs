//! The pager's thread: waits for faults, and brings the rest in when there are none.

mod complete;
mod evict;
mod grow;
mod onward;
mod serve;

use crate::ahead::Streams;
use crate::backing::Backing;
use crate::counters::Counters;
use crate::failure::{Failure, StartError};
use crate::mapping::Mapping;
use crate::memory::Memory;
use crate::neighbours::Neighbours;
use crate::originals::Originals;
use crate::pager::{Failed, Policy, Stopped};
use crate::pages::PageSet;
use crate::prefetched::Prefetched;
use crate::shared::Shared;
use denali_swap::{PAGE, PageNumber};
pub(crate) use evict::Paging;
pub(crate) use grow::Growing;
pub(crate) use onward::Onward;
use std::any::Any;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most pages that are read, filled or written together: 256 KiB.
pub(crate) const CLUSTER: usize = 64;

/// Most pages that are read together for who touches them in ascending order: 1 MiB. Where there is a limit, it
/// is [`CLUSTER`] at most.
pub(crate) const WINDOW: usize = 256;

/// Everything the thread has.
pub(crate) struct Worker<S> {
    pub memory: Memory,
    pub store: S,
    pub originals: Box<dyn Originals>,
    pub prefetched: Prefetched,
    pub policy: Policy,
    /// Only with a limit.
    pub paging: Option<Paging>,
    /// Only where the guest may not have all its pages.
    pub growing: Option<Growing>,
    /// By place: pages that are not known to be out.
    pub present: PageSet,
    pub working_set: WorkingSet,
    pub streams: Streams,
    /// Only with a limit.
    pub neighbours: Neighbours,
    /// Only without a limit.
    pub onward: Onward,
    /// What was read last: room for a cluster.
    pub buffer: Mapping,
    pub counters: Counters,
    pub shared: Arc<Shared>,
}

/// The pages that somebody waited for, in the order of the first time.
pub(crate) struct WorkingSet {
    seen: PageSet,
    order: Vec<PageNumber>,
}

impl WorkingSet {
    /// Of so many pages.
    pub(crate) fn new(pages: usize) -> Self {
        Self { seen: PageSet::new(pages), order: Vec::new() }
    }

    fn add(&mut self, index: usize, page: PageNumber) {
        if self.seen.insert(index) {
            self.order.push(page);
        }
    }
}

impl<S: Backing> Worker<S> {
    /// Runs until everything is in memory, or it is stopped, or fails, of which `failed` hears at once.
    pub(crate) fn run_to_end(mut self, failed: Failed) -> Stopped<S> {
        let ended: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| self.run()));
        match ended {
            Ok(Ok(())) => {
                if let Err(failure) = self.give_back() {
                    failed(failure);
                }
            }
            Ok(Err(failure)) => {
                failed(failure);
                // Whatever can be had of it: a report on the guest may want it.
                let _ = self.give_back();
            }
            Err(panic) => {
                // Nobody would serve the guest any more, and it would wait for ever.
                failed(Failure { page: None, why: "the pager has panicked".into() });
                resume_unwind(panic);
            }
        }
        self.publish();
        Stopped {
            uffd: self.memory.uffd,
            store: self.store,
            faulted: self.working_set.order,
            counters: self.counters,
        }
    }

    /// With a limit of either kind, every page in memory must be known.
    pub(crate) fn find_resident(&mut self) -> Result<(), StartError> {
        if self.paging.is_none() && self.growing.is_none() {
            return Ok(());
        }
        let areas: Vec<_> = self.memory.areas.iter().cloned().collect();
        for area in areas {
            let found = self.memory.pages.resident(&area);
            for run in found.map_err(StartError::host("see which pages are in memory"))? {
                (run.start.0..run.end.0).for_each(|page| self.arrived(PageNumber(page)));
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.trim()?;
        self.publish();
        while self.wait_until_quiet()? && self.complete()? {
            if self.growing.is_none() {
                self.memory.unregister()?;
                self.shared.finish();
                break;
            }
            // Everything is here, but not everything may come.
            self.policy.complete_after = None;
        }
        Ok(())
    }

    /// Serves faults until there were none for long enough; false when it is to stop.
    fn wait_until_quiet(&mut self) -> Result<bool, Failure> {
        let patience = self.policy.complete_after.filter(|_| self.paging.is_none());
        let mut quiet = Instant::now();
        loop {
            let left = patience.map(|patience| patience.saturating_sub(quiet.elapsed()));
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
            let left = [left, self.grace_left()].into_iter().flatten().min();
            self.shared.wait(self.memory.uffd.as_fd().as_raw_fd(), left);
            if self.shared.is_stopping() {
                return Ok(false);
            }
            if self.serve_waiting()? {
                quiet = Instant::now();
            }
            self.look_at_withheld()?;
        }
    }

    /// Serves whoever waits until nobody does, or it is to stop; true if anybody did.
    fn serve_waiting(&mut self) -> Result<bool, Failure> {
        let mut any = false;
        while !self.shared.is_stopping() {
            let faults = self.memory.faults()?;
            if faults.pages.is_empty() {
                break;
            }
            any = true;
            self.serve(&faults)?;
            self.publish();
        }
        Ok(any)
    }

    /// Reads pages of the store, a cluster at most, into the buffer, one after the other.
    fn fetch(&mut self, pages: &[PageNumber]) -> Result<(), S::Error> {
        self.store.read(pages, &mut self.buffer.bytes_mut()[..pages.len() * PAGE])
    }

    /// A page is in memory now; whatever is elsewhere is old from here on.
    fn arrived(&mut self, page: PageNumber) {
        let index = self.memory.index(page);
        self.store.forget(page);
        self.onward.arrived(page);
        self.present.insert(index);
        if let Some(paging) = &mut self.paging {
            paging.arrived(index, page);
        }
    }

    /// Lets others see the counters.
    fn publish(&mut self) {
        self.counters.resident = self.paging.as_ref().map_or(0, Paging::resident);
        if self.growing.is_some() && self.owned() > self.shared.growth() {
            self.shared.fill_up();
        }
        self.shared.publish(self.counters);
    }
}
