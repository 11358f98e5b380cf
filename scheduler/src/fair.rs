//! The run queue of many guests on few processors: shares by weight, precedence for who has idled.
//!
//! Each guest has a virtual time: what it ran, divided by its weight. Who is furthest behind goes first,
//! which gives guests that compete shares by their weights. A guest that was idle comes back with what it
//! has not used, but at most one quantum behind the others: that is its **idle credit**. It goes before
//! all that compute, and cannot starve them, because what it then runs uses the credit up. A guest that burns
//! its quanta has no credit, and an idle moment brings it none, for its virtual time stays where it was.

use std::collections::{BTreeMap, BTreeSet};

/// The weight of a guest for which none is configured.
pub const WEIGHT: u32 = 100;

/// Virtual time: nanoseconds at a weight of 1, times 2^20, so that no moment is too short to count.
type Virtual = u128;

/// Fraction bits of [`Virtual`].
const SHIFT: u32 = 20;

/// Guests and whose turn it is. Every operation takes time logarithmic in their number.
///
/// A guest that is inserted is idle. [`ready`](Self::ready) queues it, [`pick`](Self::pick) makes it run,
/// [`charge`](Self::charge) tells for how long it did, and `ready` or [`idle`](Self::idle) ends its turn.
/// With several processors several guests run at a time.
#[derive(Clone, Debug)]
pub struct FairQueue<Id> {
    guests: BTreeMap<Id, Guest>,
    ready: BTreeSet<Place<Id>>,
    running: BTreeSet<Place<Id>>,
    /// What no guest that competes is behind, but for idle credit; never runs backwards.
    floor: Virtual,
    credit: Virtual,
    arrivals: u64,
}

/// A guest's place in a queue: by virtual time, then by arrival.
type Place<Id> = (Virtual, u64, Id);

#[derive(Clone, Debug)]
struct Guest {
    weight: u32,
    time: Virtual,
    arrival: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Ready,
    Running,
}

impl<Id: Copy + Ord> FairQueue<Id> {
    /// An empty queue. Idle credit is one quantum of `quantum_ns`, at the usual weight; more and less in
    /// proportion at others.
    #[must_use]
    pub fn new(quantum_ns: u64) -> Self {
        Self {
            guests: BTreeMap::new(),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            floor: 0,
            credit: virtual_time(quantum_ns, WEIGHT),
            arrivals: 0,
        }
    }

    /// Adds an idle guest, which has idle credit; 0 counts as a weight of 1. False: it is there already, and
    /// keeps the weight it has.
    pub fn insert(&mut self, id: Id, weight: u32) -> bool {
        if self.guests.contains_key(&id) {
            return false;
        }
        let guest = Guest { weight: weight.max(1), time: 0, arrival: 0, state: State::Idle };
        self.guests.insert(id, guest);
        true
    }

    /// Forgets a guest. False: there is none.
    pub fn remove(&mut self, id: Id) -> bool {
        self.idle(id);
        self.guests.remove(&id).is_some()
    }

    /// The guest wants to run: it has something to do, or its turn is over and it has more.
    pub fn ready(&mut self, id: Id) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        match guest.state {
            State::Ready => return,
            State::Running => _ = self.running.remove(&(guest.time, guest.arrival, id)),
            State::Idle => guest.time = guest.time.max(self.floor.saturating_sub(self.credit)),
        }
        self.arrivals += 1;
        (guest.state, guest.arrival) = (State::Ready, self.arrivals);
        self.ready.insert((guest.time, guest.arrival, id));
    }

    /// The guest has nothing to do.
    pub fn idle(&mut self, id: Id) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let place = (guest.time, guest.arrival, id);
        match guest.state {
            State::Idle => return,
            State::Ready => _ = self.ready.remove(&place),
            State::Running => _ = self.running.remove(&place),
        }
        guest.state = State::Idle;
        self.raise_floor();
    }

    /// Whose turn it is: it counts as running from here on. `None`: nobody is ready.
    pub fn pick(&mut self) -> Option<Id> {
        let place = self.ready.pop_first()?;
        self.running.insert(place);
        if let Some(guest) = self.guests.get_mut(&place.2) {
            guest.state = State::Running;
        }
        self.raise_floor();
        Some(place.2)
    }

    /// The guest ran for `ran_ns`. May be told several times in a turn; what is told of a guest that does not
    /// run counts as well.
    pub fn charge(&mut self, id: Id, ran_ns: u64) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let (before, time) = (guest.time, guest.time + virtual_time(ran_ns, guest.weight));
        guest.time = time;
        let queue = match guest.state {
            State::Idle => return,
            State::Ready => &mut self.ready,
            State::Running => &mut self.running,
        };
        queue.remove(&(before, guest.arrival, id));
        queue.insert((time, guest.arrival, id));
        self.raise_floor();
    }

    /// Whether the guest would go before all that have no idle credit, if it became ready.
    #[must_use]
    pub fn has_credit(&self, id: Id) -> bool {
        self.guests.get(&id).is_some_and(|guest| guest.time < self.floor)
    }

    /// Guests that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    fn raise_floor(&mut self) {
        let least = self.ready.first().into_iter().chain(self.running.first());
        if let Some(least) = least.map(|place| place.0).min() {
            self.floor = self.floor.max(least);
        }
    }
}

fn virtual_time(ran_ns: u64, weight: u32) -> Virtual {
    (Virtual::from(ran_ns) << SHIFT) / Virtual::from(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: u64 = 2_000_000;

    fn queue(guests: &[(char, u32)]) -> FairQueue<char> {
        let mut queue = FairQueue::new(QUANTUM);
        guests.iter().for_each(|&(id, weight)| assert!(queue.insert(id, weight)));
        queue
    }

    /// The next guest runs for a whole quantum and wants more.
    fn turn(queue: &mut FairQueue<char>) -> Option<char> {
        let id = queue.pick()?;
        queue.charge(id, QUANTUM);
        queue.ready(id);
        Some(id)
    }

    #[test]
    fn turns_are_by_weight() {
        let mut queue = queue(&[('a', 100), ('b', 200)]);
        assert_eq!(queue.pick(), None, "all idle");
        ['a', 'b'].into_iter().for_each(|id| queue.ready(id));
        let turns: String = (0..9).filter_map(|_| turn(&mut queue)).collect();
        assert_eq!(turns, "abbabbabb");
    }

    #[test]
    fn who_idled_goes_first_and_a_burned_quantum_ends_that() {
        let mut queue = queue(&[('a', 100), ('b', 100), ('c', 100)]);
        ['a', 'b'].into_iter().for_each(|id| queue.ready(id));
        (0..10).for_each(|_| _ = turn(&mut queue));
        assert!(queue.has_credit('c'));
        queue.ready('c');
        let turns: String = (0..7).filter_map(|_| turn(&mut queue)).collect();
        assert_eq!(turns, "cabcabc", "one turn ahead, and then its share");
        assert!(!queue.has_credit('c'));
    }

    #[test]
    fn an_idle_moment_after_a_burned_quantum_brings_no_credit() {
        let mut queue = queue(&[('a', 100), ('b', 100)]);
        ['a', 'b'].into_iter().for_each(|id| queue.ready(id));
        for _ in 0..10 {
            let first = turn(&mut queue).unwrap();
            queue.idle(first);
            queue.ready(first);
            assert_ne!(turn(&mut queue), Some(first));
        }
    }

    #[test]
    fn who_is_gone_is_not_picked() {
        let mut queue = queue(&[('a', 100), ('b', 100)]);
        assert!(!queue.insert('a', 1));
        ['a', 'b', 'x'].into_iter().for_each(|id| queue.ready(id));
        assert_eq!(queue.waiting(), 2);
        assert!(queue.remove('a') && !queue.remove('a'));
        queue.charge('a', 5);
        assert_eq!([queue.pick(), queue.pick()], [Some('b'), None]);
    }
}
