//! A guest that may not have all its pages is held where it would have too many.
//!
//! Whoever touches a page waits until it is there; so a guest that is given none is held, and its thread with it. That
//! one is interrupted by the next signal, finds that the guest is full, and does not enter it any more. Others
//! that touch pages on the guest's behalf, its devices, could not turn to anything else meanwhile: they get theirs,
//! and the guest is held for it at its next entry.

use super::Worker;
use crate::backing::Backing;
use crate::failure::Failure;
use crate::memory::Faults;
use denali_swap::PageNumber;
use std::time::{Duration, Instant};

/// How long a thread that is inside the guest is made to wait. Signals bring it out long before, unless the kernel
/// waits on behalf of the guest in a way that no signal interrupts.
const GRACE: Duration = Duration::from_millis(200);

/// What a guest does not get.
#[derive(Debug)]
pub(crate) struct Growing {
    /// The thread that executes the guest.
    thread: u32,
    /// Pages that it waits for, inside the guest.
    withheld: Vec<PageNumber>,
    /// When the first of them was touched.
    since: Instant,
}

impl Growing {
    /// For a guest that this thread executes.
    pub(crate) fn new() -> Self {
        // SAFETY: the call touches no memory.
        let thread = unsafe { libc::gettid() } as u32;
        Self { thread, withheld: Vec::new(), since: Instant::now() }
    }
}

impl<S: Backing> Worker<S> {
    /// Pages that the guest has: in memory, or in the store.
    pub(super) fn owned(&self) -> usize {
        self.present.len() + self.store.count()
    }

    /// Whether the guest would have a page more if this one came.
    pub(super) fn is_growth(&self, page: PageNumber) -> bool {
        self.growing.is_some() && !self.store.contains(page)
    }

    /// Leaves out those of the wanted pages that the guest may not have.
    pub(super) fn admit(&mut self, wanted: Vec<PageNumber>, faults: &Faults) -> Vec<PageNumber> {
        if self.growing.is_none() {
            return wanted;
        }
        let mut room = self.shared.growth().saturating_sub(self.owned());
        let (mut admitted, mut withheld) = (Vec::with_capacity(wanted.len()), Vec::new());
        for page in wanted {
            let grows = self.is_growth(page);
            if grows && room == 0 && self.is_guests(page, faults) {
                withheld.push(page);
                continue;
            }
            room = room.saturating_sub(usize::from(grows));
            admitted.push(page);
        }
        self.withhold(&withheld);
        admitted
    }

    /// Whether the guest itself waits for a page, and nobody else does.
    fn is_guests(&self, page: PageNumber, faults: &Faults) -> bool {
        let thread = self.growing.as_ref().map(|growing| growing.thread);
        let mut who = faults.pages.iter().zip(&faults.threads).filter(|(other, _)| **other == page);
        self.shared.is_entered() && who.all(|(_, who)| Some(*who) == thread)
    }

    fn withhold(&mut self, pages: &[PageNumber]) {
        let Some(growing) = self.growing.as_mut().filter(|_| !pages.is_empty()) else { return };
        if growing.withheld.is_empty() {
            growing.since = Instant::now();
        }
        growing.withheld.extend(pages);
        self.shared.fill_up();
    }

    /// How long it takes until withheld pages are to be looked at.
    pub(super) fn grace_left(&self) -> Option<Duration> {
        let growing = self.growing.as_ref().filter(|growing| !growing.withheld.is_empty())?;
        Some(GRACE.saturating_sub(growing.since.elapsed()))
    }

    /// A guest that has come out waits for nothing: it touches its pages again when it goes on. One that cannot
    /// come out gets them; it is full all the same.
    pub(super) fn look_at_withheld(&mut self) -> Result<(), Failure> {
        if self.grace_left() != Some(Duration::ZERO) {
            return Ok(());
        }
        let Some(growing) = &mut self.growing else { return Ok(()) };
        let mut pages = std::mem::take(&mut growing.withheld);
        if self.shared.is_entered() {
            pages.sort_unstable();
            pages.dedup();
            pages.retain(|page| self.is_out(*page));
            self.make_room(pages.len())?;
            self.bring_others(&pages, true)?;
            self.counters.faults += pages.len() as u64;
            self.publish();
        }
        Ok(())
    }
}
