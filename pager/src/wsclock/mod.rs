//! WSClock (Carr and Hennessy, 1981): which pages of a guest leave memory when it may have no more.
//!
//! The clock is a ring of the pages in memory, each with the guest's virtual time of its last known use. The
//! original looks at a page's reference bit when the hand comes by. There is none to be had here, so
//! the hand *stages* the page: it is taken from the guest, but stays in memory. If the guest touches it, it was
//! referenced: it goes back, behind the hand. If it does not, the page is a victim: at leisure once it has
//! not been used for the window (tau), which is what it means not to be in the working set; and before
//! that where the working set is larger than the limit, the longest staged first.
//!
//! Because a page that is used goes behind the hand, the ring is a queue, and the pages that wait for
//! their verdict are a second one. Every operation takes constant time.
//!
//! Pages are known by their place among the guest's, time is a number: there is no input, no output
//! and no clock in here.

mod queue;
#[cfg(test)]
mod tests;

use queue::{Queue, Slot};

/// Where a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not in memory.
    Out,
    /// The guest has it.
    Active,
    /// In memory, but the guest would have to ask for it.
    Staged,
}

/// The policy for one guest.
#[derive(Debug)]
pub(crate) struct WsClock {
    limit: usize,
    window_ns: u64,
    slots: Vec<Slot>,
    /// Slots that no page has.
    unused: Vec<u32>,
    /// For each of the guest's pages its slot, plus one; 0 while it is out.
    slot_of: Vec<u32>,
    active: Queue,
    staged: Queue,
}

impl WsClock {
    /// The fewest pages a guest can be limited to.
    pub(crate) const LEAST: usize = 64;

    /// For a guest of `pages` pages, of which at most `limit` are in memory. `window_ns` is tau: a page
    /// that was not used for so much of the guest's own time is not in its working set.
    pub(crate) fn new(pages: usize, limit: usize, window_ns: u64) -> Self {
        Self {
            limit,
            window_ns,
            slots: Vec::new(),
            unused: Vec::new(),
            slot_of: vec![0; pages],
            active: Queue::new(),
            staged: Queue::new(),
        }
    }

    pub(crate) fn state(&self, page: usize) -> State {
        match self.slot(page) {
            None => State::Out,
            Some(slot) if self.slots[slot as usize].staged => State::Staged,
            Some(_) => State::Active,
        }
    }

    /// Pages in memory, staged ones included.
    pub(crate) fn resident(&self) -> usize {
        self.active.len() + self.staged.len()
    }

    /// How many pages may come into memory.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.resident())
    }

    /// The most pages that may be brought in for one fault.
    pub(crate) fn most_at_once(&self) -> usize {
        self.limit / 8
    }

    /// A page is in memory now, and the guest has it.
    pub(crate) fn insert(&mut self, page: usize, now_ns: u64) {
        if self.slot(page).is_some() {
            return self.used(page, now_ns);
        }
        let entry = Slot::new(page as u32, now_ns);
        let slot = self.unused.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(unused) => *unused = entry,
            None => self.slots.push(entry),
        }
        self.slot_of[page] = slot + 1;
        self.active.push(&mut self.slots, slot);
    }

    /// The guest has, or is given, a page that is in memory: it is behind the hand again.
    pub(crate) fn used(&mut self, page: usize, now_ns: u64) {
        let Some(slot) = self.slot(page) else { return };
        self.take(slot);
        let entry = &mut self.slots[slot as usize];
        (entry.staged, entry.used_ns) = (false, now_ns);
        self.active.push(&mut self.slots, slot);
    }

    /// Stages the page at the hand.
    pub(crate) fn stage(&mut self, now_ns: u64) -> Option<usize> {
        let slot = self.active.first()?;
        self.active.remove(&mut self.slots, slot);
        let entry = &mut self.slots[slot as usize];
        // Without a reference bit, the guest may have used it until now.
        (entry.staged, entry.used_ns) = (true, now_ns);
        let page = entry.page as usize;
        self.staged.push(&mut self.slots, slot);
        Some(page)
    }

    /// A page is out of memory.
    pub(crate) fn remove(&mut self, page: usize) {
        let Some(slot) = self.slot(page) else { return };
        self.take(slot);
        self.slot_of[page] = 0;
        self.unused.push(slot);
    }

    /// The pages that have been staged longest, at most so many.
    pub(crate) fn victims(&self, most: usize) -> Vec<usize> {
        self.staged.iter(&self.slots).take(most).map(|slot| slot.page as usize).collect()
    }

    /// All staged pages.
    pub(crate) fn staged(&self) -> Vec<usize> {
        self.victims(self.staged.len())
    }

    /// How many pages to stage now that `brought` have come into memory, so that those which leave next
    /// have had their chance: none while memory is plenty, and at most two for each that came.
    pub(crate) fn to_stage(&self, brought: usize) -> usize {
        let target = self.limit / 4;
        if self.free() >= target {
            return 0;
        }
        target.saturating_sub(self.staged.len()).min(2 * brought)
    }

    /// How many pages should leave memory now, ahead of need, so that the next faults find room: none while
    /// there is some; then a batch, and with it further pages that are in no working set.
    pub(crate) fn to_evict(&self, now_ns: u64) -> usize {
        let batch = self.batch();
        if self.missing(batch) == 0 {
            return 0;
        }
        let needed = self.missing(2 * batch);
        let further = self.staged.iter(&self.slots).skip(needed).take(2 * batch);
        needed + further.take_while(|slot| self.is_old(slot, now_ns)).count()
    }

    /// How many pages must leave before `wanted` can come: a batch at least, if any.
    pub(crate) fn to_evict_for(&self, wanted: usize) -> usize {
        let missing = self.missing(wanted);
        if missing == 0 { 0 } else { missing.max(self.batch()) }
    }

    /// How many of the first `count` victims are still in the working set: the limit is below it.
    pub(crate) fn in_working_set(&self, count: usize, now_ns: u64) -> usize {
        let victims = self.staged.iter(&self.slots).take(count);
        victims.filter(|slot| !self.is_old(slot, now_ns)).count()
    }

    /// Staged pages.
    pub(crate) fn staged_count(&self) -> usize {
        self.staged.len()
    }

    /// How many pages are too many for `wanted` more to come.
    fn missing(&self, wanted: usize) -> usize {
        (self.resident() + wanted).saturating_sub(self.limit)
    }

    /// How many pages leave together, if it can be helped: one write for many.
    fn batch(&self) -> usize {
        (self.limit / 32).clamp(2, 64)
    }

    /// Takes a slot from the queue that it is in.
    fn take(&mut self, slot: u32) {
        let staged = self.slots[slot as usize].staged;
        let queue = if staged { &mut self.staged } else { &mut self.active };
        queue.remove(&mut self.slots, slot);
    }

    fn is_old(&self, slot: &Slot, now_ns: u64) -> bool {
        now_ns.saturating_sub(slot.used_ns) > self.window_ns
    }

    fn slot(&self, page: usize) -> Option<u32> {
        self.slot_of[page].checked_sub(1)
    }
}
