//! The pager as its owner sees it: started with a guest that is out, stopped at any time.

use crate::ahead::Streams;
use crate::backing::Backing;
use crate::counters::Counters;
use crate::failure::{Failure, StartError};
use crate::mapping::Mapping;
use crate::memory::Memory;
use crate::neighbours::Neighbours;
use crate::originals::Originals;
use crate::pages::{HostPages, PageSet};
use crate::prefetched::Prefetched;
use crate::shared::Shared;
use crate::uffd::Uffd;
use crate::worker::{Growing, Onward, Paging, WINDOW, Worker, WorkingSet};
use denali_swap::{PAGE, PageNumber, kept_for_this_thread};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Bytes of the thread's stack.
const STACK: usize = 128 << 10;

/// Hears once why a guest cannot go on.
pub type Failed = Box<dyn FnOnce(Failure) + Send>;

/// How pages come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When nobody has waited for a page for so long, the rest is brought in; `None` = never. With a limit
    /// never.
    pub complete_after: Option<Duration>,
    /// How many pages are brought along that the same read brings from the store; with a limit only once it was
    /// seen that they are wanted too. Who touches pages in ascending order is brought up to 256, with a limit up to 64, whatever this is.
    pub read_ahead: usize,
}

/// How much of a guest may be in memory.
pub struct Limit {
    /// Pages in memory, pinned ones included; at least 64 more than those.
    pub pages: usize,
    /// The guest's virtual time in nanoseconds: the processor time of its vCPU.
    pub clock: Box<dyn Fn() -> u64 + Send>,
    /// Tau, in nanoseconds of that time: a page that was not used for so long is in no working set.
    pub window_ns: u64,
    /// Pages that are in memory always.
    pub pinned: Vec<PageNumber>,
}

/// What a pager is made of.
pub struct Setup<S> {
    /// Made by this process.
    pub uffd: Uffd,
    /// The guest's memory.
    pub pages: HostPages,
    /// Where pages are that were written to.
    pub store: S,
    /// Where the others are.
    pub originals: Box<dyn Originals>,
    /// The ranges in which pages may be out, sorted and apart; with a limit, all memory that the guest
    /// can write. In them, from here on, nobody else discards pages.
    pub missing: Vec<Range<PageNumber>>,
    /// How pages come back.
    pub policy: Policy,
    /// Whether pages also leave. Then nothing is prefetched.
    pub limit: Option<Limit>,
    /// Most pages that the guest may have in `missing`, in memory and in the store together; `None` = all. The
    /// thread that starts the pager is taken to execute the guest ([`Pager::enter`]).
    pub growth: Option<usize>,
    /// Pages that were read already.
    pub prefetched: Prefetched,
    /// Called on the pager's thread, at most once, when a page cannot be had or written. The guest may be
    /// waiting for it, and is served no more: end the process.
    pub failed: Failed,
}

/// What is left of a pager.
#[derive(Debug)]
pub struct Stopped<S> {
    /// Where pages are still out, memory stays registered: who touches one waits for the next pager.
    pub uffd: Uffd,
    /// With all pages that are out and were written to.
    pub store: S,
    /// The pages that somebody waited for, in the order of the first time: the working set.
    pub faulted: Vec<PageNumber>,
    /// What it has done.
    pub counters: Counters,
}

/// A thread that serves a guest's faults.
pub struct Pager<S> {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Stopped<S>>>,
}

impl<S: Backing + Send + 'static> Pager<S> {
    /// Registers memory, and begins to serve. From here on everybody may touch it.
    ///
    /// # Errors
    /// When the setup is not valid, or the host refuses. Store and userfaultfd are gone then, so that
    /// missing pages are zeroes: the guest must not run.
    pub fn start(setup: Setup<S>) -> Result<Self, StartError> {
        let Setup { uffd, pages, store, originals, missing, .. } = setup;
        let Setup { policy, limit, growth, prefetched, failed, .. } = setup;
        if limit.is_some() && !prefetched.is_empty() {
            return Err(StartError::Prefetched);
        }
        let memory = Memory::register(uffd, pages, missing)?;
        let paging = limit.map(|limit| Paging::new(&memory, limit)).transpose()?;
        let shared = Arc::new(Shared::new(growth).map_err(StartError::host("make an eventfd"))?);
        let buffer = Mapping::new(WINDOW * PAGE);
        let mut worker = Worker {
            store,
            originals,
            prefetched,
            policy,
            paging,
            growing: growth.map(|_| Growing::new()),
            present: PageSet::new(pages.count()),
            working_set: WorkingSet::new(pages.count()),
            streams: Streams::default(),
            neighbours: Neighbours::default(),
            onward: Onward::default(),
            buffer: buffer.map_err(StartError::host("map a buffer"))?,
            counters: Counters::default(),
            shared: shared.clone(),
            memory,
        };
        worker.find_resident()?;
        let start = || {
            let thread = Builder::new().name("pager".into()).stack_size(STACK);
            thread.spawn(move || worker.run_to_end(failed))
        };
        let thread = kept_for_this_thread(start);
        let thread = thread.map_err(StartError::host("start the pager's thread"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Stops serving, soon: whoever waits then goes on waiting. Staged pages are the guest's again.
    #[must_use]
    pub fn stop(mut self) -> Stopped<S> {
        self.shared.stop();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(stopped)) => stopped,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("only stopping and dropping take the thread"),
        }
    }
}

impl<S> Pager<S> {
    /// Whether everything is in memory, which is ordinary memory again; the thread has ended, or is about
    /// to.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.is_done()
    }

    /// The thread that started the pager is about to execute the guest, or has come out of it. Only inside is it
    /// made to wait for pages that the guest may not have.
    pub fn enter(&self, inside: bool) {
        self.shared.enter(inside);
    }

    /// Whether the guest has wanted more pages than it may have, or has more because its devices do: it is not to
    /// be entered any more. It stays so until the limit is lifted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full()
    }

    /// From here on the guest may have all its pages.
    pub fn lift(&self) {
        self.shared.lift();
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}

impl<S> Drop for Pager<S> {
    /// A thread without an owner would serve for ever.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop();
            let _ = thread.join();
        }
    }
}
