//! Which thread runs next, and for how long: the rules alone, without stacks or a clock.

use crate::clock::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// How long a thread computes before the next one has its turn.
pub(super) const SLICE: Duration = Duration::from_millis(4);

/// A thread's place in the table, and how often that place had been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// Both in one number.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`Id::to_bits`].
    pub(super) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// What a thread may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// [`Scheduler::unpark`].
    Park,
    /// [`Scheduler::wake`].
    Wake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue.
    Ready,
    Running,
    Waiting(On),
    Finished,
}

/// A thread; `payload` is what others need to run it, and is theirs while it runs.
struct Slot<P> {
    generation: u32,
    state: State,
    /// What it will wait for next has happened already: for each of [`On`].
    happened: [bool; 2],
    payload: Option<P>,
}

/// The thread that runs.
#[derive(Clone, Copy)]
struct Current {
    id: Id,
    /// When its time is over.
    until: Instant,
    /// It has given up the rest of its time.
    yielded: bool,
}

/// All threads of a program. Those that are ready take turns; one that was interrupted goes on before others, if
/// its time is not over.
pub(super) struct Scheduler<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
    ready: VecDeque<Id>,
    current: Option<Current>,
    /// The thread at the head of the queue was interrupted, and may run until then.
    rest: Option<Instant>,
}

impl<P> Scheduler<P> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            current: None,
            rest: None,
        }
    }

    /// A thread that is ready from here on.
    pub(super) fn add(&mut self, payload: P) -> Id {
        let slot = Slot {
            generation: 0,
            state: State::Ready,
            happened: [false; 2],
            payload: Some(payload),
        };
        let index = match self.free.pop() {
            Some(index) => {
                let place = &mut self.slots[index as usize];
                *place = Slot { generation: place.generation, ..slot };
                index
            }
            None => {
                self.slots.push(slot);
                // Room for all to be free or ready, so that neither ending nor waking allocates.
                self.free.reserve(self.slots.len());
                self.ready.reserve(self.slots.len());
                (self.slots.len() - 1) as u32
            }
        };
        let id = Id { index, generation: self.slots[index as usize].generation };
        self.ready.push_back(id);
        id
    }

    /// Threads that have not ended.
    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether a thread could run.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The thread that runs.
    pub(super) fn current(&self) -> Option<Id> {
        self.current.map(|current| current.id)
    }

    /// Whether a thread has not ended.
    pub(super) fn is_alive(&self, id: Id) -> bool {
        let slot = self.slots.get(id.index as usize);
        slot.is_some_and(|slot| slot.generation == id.generation && slot.state != State::Finished)
    }

    /// Takes the next thread out to run: what it needs, and when its time is over.
    pub(super) fn start(&mut self, now: Instant) -> Option<(P, Instant)> {
        let id = self.ready.pop_front()?;
        let rest = self.rest.take().filter(|&until| until > now);
        let until = rest.unwrap_or(now + SLICE);
        let slot = &mut self.slots[id.index as usize];
        let payload = slot.payload.take()?;
        slot.state = State::Running;
        self.current = Some(Current { id, until, yielded: false });
        Some((payload, until))
    }

    /// The thread that ran has left, with what is needed to run it again.
    pub(super) fn stopped(&mut self, payload: P, now: Instant) {
        let Some(Current { id, until, yielded }) = self.current.take() else { return };
        let slot = &mut self.slots[id.index as usize];
        match slot.state {
            State::Finished => {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(id.index);
                return;
            }
            State::Running => {
                slot.state = State::Ready;
                if yielded || until <= now {
                    self.ready.push_back(id);
                } else {
                    self.ready.push_front(id);
                    self.rest = Some(until);
                }
            }
            // It is in the queue already if what it waits for has happened meanwhile.
            State::Ready | State::Waiting(_) => {}
        }
        slot.payload = Some(payload);
    }

    fn running(&mut self) -> Option<&mut Slot<P>> {
        let id = self.current?.id;
        self.slots.get_mut(id.index as usize)
    }

    /// The thread that runs lets others run.
    pub(super) fn give_up_time(&mut self) {
        if let Some(current) = &mut self.current {
            current.yielded = true;
        }
    }

    /// The thread that runs is to wait. False if what it waits for has happened since it last waited for it:
    /// then it does not.
    pub(super) fn wait(&mut self, on: On) -> bool {
        let Some(slot) = self.running() else { return false };
        if core::mem::take(&mut slot.happened[on as usize]) {
            return false;
        }
        slot.state = State::Waiting(on);
        true
    }

    /// The thread that runs has come to its end.
    pub(super) fn finish(&mut self) {
        if let Some(slot) = self.running() {
            slot.state = State::Finished;
        }
    }

    /// Ends a thread's wait on [`On::Park`], or its next one.
    pub(super) fn unpark(&mut self, id: Id) {
        self.happens(id, On::Park);
    }

    /// Ends a thread's wait on [`On::Wake`], or its next one.
    pub(super) fn wake(&mut self, id: Id) {
        self.happens(id, On::Wake);
    }

    fn happens(&mut self, id: Id, on: On) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return };
        if slot.generation != id.generation {
            return;
        }
        if slot.state == State::Waiting(on) {
            slot.state = State::Ready;
            self.ready.push_back(id);
        } else {
            slot.happened[on as usize] = true;
        }
    }
}

#[cfg(test)]
mod tests;
