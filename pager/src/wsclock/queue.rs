//! Queues whose entries can leave from anywhere: linked lists of slots.

/// No slot.
const NONE: u32 = u32::MAX;

/// A page in memory, in one of the queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub page: u32,
    before: u32,
    after: u32,
    /// It is among the staged ones.
    pub staged: bool,
    /// Virtual time until which it may have been used, as far as is known.
    pub used_ns: u64,
}

impl Slot {
    /// Not in a queue yet.
    pub(super) fn new(page: u32, used_ns: u64) -> Self {
        Self { page, before: NONE, after: NONE, staged: false, used_ns }
    }
}

/// A queue of slots; each slot is in one queue at most.
#[derive(Debug)]
pub(super) struct Queue {
    first: u32,
    last: u32,
    length: usize,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { first: NONE, last: NONE, length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Appends a slot that is in no queue.
    pub(super) fn push(&mut self, slots: &mut [Slot], slot: u32) {
        let entry = &mut slots[slot as usize];
        (entry.before, entry.after) = (self.last, NONE);
        match self.last {
            NONE => self.first = slot,
            last => slots[last as usize].after = slot,
        }
        self.last = slot;
        self.length += 1;
    }

    /// Removes a slot that is in this queue.
    pub(super) fn remove(&mut self, slots: &mut [Slot], slot: u32) {
        let Slot { before, after, .. } = slots[slot as usize];
        match before {
            NONE => self.first = after,
            before => slots[before as usize].after = after,
        }
        match after {
            NONE => self.last = before,
            after => slots[after as usize].before = before,
        }
        self.length -= 1;
    }

    /// From the first to the last.
    pub(super) fn iter<'a>(&self, slots: &'a [Slot]) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let slot = slots.get(next as usize)?;
            next = slot.after;
            Some(slot)
        })
    }
}
