//! Deadlines of many guests: a hierarchical timer wheel.
//!
//! Time goes in ticks of about a millisecond. A deadline waits in a slot of the lowest level at which it
//! differs from the present, as in the digits of two numbers: 64 slots a level, each as long as the level
//! below. When the present reaches a slot, what is in it moves down, and at the lowest level it is due.
//! Setting and dropping a deadline take constant time, and each moves down seven times at most.

/// A tick is this power of two nanoseconds: 1.05 ms.
const TICK_BITS: u32 = 20;

/// Slots of a level are this power of two.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Enough for all ticks of 64 bits of nanoseconds.
const LEVELS: usize = 8;

/// No guest.
const NONE: u32 = u32::MAX;

/// Deadlines by the numbers of guests, each of which has one or none.
pub(crate) struct Wheel {
    /// The present: a tick up to which everything has been told.
    now: u64,
    /// The first guest of each slot's list.
    heads: [[u32; SLOTS]; LEVELS],
    /// Slots that have a list, a bit for each.
    occupied: [u64; LEVELS],
    /// By guest.
    nodes: Vec<Node>,
}

/// A guest's place in a list.
#[derive(Clone, Copy)]
struct Node {
    /// The tick at which it is due; meaningless if it is in no list.
    tick: u64,
    before: u32,
    after: u32,
    slot: Option<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    level: u8,
    index: u8,
}

const NOWHERE: Node = Node { tick: 0, before: NONE, after: NONE, slot: None };

impl Wheel {
    /// A wheel without deadlines; it is `now_ns`.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self {
            now: now_ns >> TICK_BITS,
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
        }
    }

    /// Sets the deadline of a guest, in place of the one it had. One that has passed is told of next.
    pub(crate) fn set(&mut self, guest: u32, deadline_ns: u64) {
        self.clear(guest);
        let index = guest as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, NOWHERE);
        }
        let tick = deadline_ns.div_ceil(1 << TICK_BITS).max(self.now + 1);
        self.nodes[index].tick = tick;
        self.insert(guest, self.slot_of(tick));
    }

    /// Drops the deadline of a guest, if it has one.
    pub(crate) fn clear(&mut self, guest: u32) {
        let Some(node) = self.nodes.get_mut(guest as usize) else { return };
        let Some(slot) = node.slot.take() else { return };
        let Node { before, after, .. } = *node;
        match before {
            NONE => *self.head(slot) = after,
            before => self.nodes[before as usize].after = after,
        }
        if after != NONE {
            self.nodes[after as usize].before = before;
        }
        if *self.head(slot) == NONE {
            self.occupied[usize::from(slot.level)] &= !(1 << slot.index);
        }
    }

    /// When [`Wheel::advance`] next has something to do, in ns: never later than the first deadline is
    /// told of. `None` = never.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let (_, start) = self.next_slot()?;
        Some(start.saturating_mul(1 << TICK_BITS))
    }

    /// It is `now_ns`: adds the guests whose deadlines have passed to `due`, each once. They have none then.
    pub(crate) fn advance(&mut self, now_ns: u64, due: &mut Vec<u32>) {
        let target = now_ns >> TICK_BITS;
        while let Some((slot, start)) = self.next_slot().filter(|(_, start)| *start <= target) {
            self.now = start;
            let mut guest = std::mem::replace(self.head(slot), NONE);
            self.occupied[usize::from(slot.level)] &= !(1 << slot.index);
            while guest != NONE {
                let node = &mut self.nodes[guest as usize];
                let Node { tick, after, .. } = *node;
                node.slot = None;
                if tick <= self.now {
                    due.push(guest);
                } else {
                    self.insert(guest, self.slot_of(tick));
                }
                guest = after;
            }
        }
        self.now = self.now.max(target);
    }

    /// The slot whose time comes first, and the tick at which it begins.
    fn next_slot(&self) -> Option<(Slot, u64)> {
        // What waits at a lower level shares more digits with the present, so it is earlier.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let index = self.occupied[level].trailing_zeros();
        let shift = level as u32 * SLOT_BITS;
        let shared = self.now >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        let slot = Slot { level: level as u8, index: index as u8 };
        Some((slot, shared | u64::from(index) << shift))
    }

    /// Where a tick after the present waits.
    fn slot_of(&self, tick: u64) -> Slot {
        let differs = (tick ^ self.now).checked_ilog2().unwrap_or(0);
        let level = differs / SLOT_BITS;
        let index = tick >> (level * SLOT_BITS) & (SLOTS as u64 - 1);
        Slot { level: level as u8, index: index as u8 }
    }

    /// Puts a guest, which is in no list, first into a slot's.
    fn insert(&mut self, guest: u32, slot: Slot) {
        let after = std::mem::replace(self.head(slot), guest);
        self.occupied[usize::from(slot.level)] |= 1 << slot.index;
        if after != NONE {
            self.nodes[after as usize].before = guest;
        }
        let node = &mut self.nodes[guest as usize];
        (node.before, node.after, node.slot) = (NONE, after, Some(slot));
    }

    fn head(&mut self, slot: Slot) -> &mut u32 {
        &mut self.heads[usize::from(slot.level)][usize::from(slot.index)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: u64 = 1 << TICK_BITS;

    fn advance(wheel: &mut Wheel, now_ns: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now_ns, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn deadlines_are_told_of_once_and_in_time() {
        let mut wheel = Wheel::new(10 * TICK + 5);
        assert_eq!(wheel.next_ns(), None);
        wheel.set(3, 20 * TICK + 1);
        wheel.set(7, 20 * TICK);
        wheel.set(0, 90_000 * TICK);
        assert_eq!(wheel.next_ns(), Some(20 * TICK));
        assert!(advance(&mut wheel, 20 * TICK - 1).is_empty());
        assert_eq!(advance(&mut wheel, 20 * TICK), [7]);
        assert_eq!(advance(&mut wheel, 500 * TICK), [3]);
        assert!(advance(&mut wheel, 90_000 * TICK - 1).is_empty());
        assert_eq!(advance(&mut wheel, 90_000 * TICK), [0]);
        assert_eq!(wheel.next_ns(), None);
    }

    #[test]
    fn what_is_overdue_is_told_of_next_and_once() {
        let mut wheel = Wheel::new(1000 * TICK);
        wheel.set(1, 0);
        wheel.set(2, 1000 * TICK);
        assert_eq!(wheel.next_ns(), Some(1001 * TICK));
        assert_eq!(advance(&mut wheel, 1001 * TICK), [1, 2]);
        assert!(advance(&mut wheel, u64::MAX).is_empty());
    }

    #[test]
    fn a_deadline_at_the_end_of_time_is_as_good_as_none() {
        let mut wheel = Wheel::new(0);
        wheel.set(1, u64::MAX);
        assert_eq!(wheel.next_ns(), Some(u64::MAX));
        assert!(advance(&mut wheel, u64::MAX).is_empty());
        assert_eq!(wheel.next_ns(), Some(u64::MAX));
        wheel.clear(1);
        assert_eq!(wheel.next_ns(), None);
    }

    /// What is done with a wheel.
    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Times that differ by all orders of magnitude.
        let span = || (0_u32..64, any::<u64>()).prop_map(|(bits, time)| time >> bits);
        let step = prop_oneof![
            3 => (0..20_u32, span()).prop_map(|(guest, time)| Step::Set(guest, time)),
            1 => (0..20_u32).prop_map(Step::Clear),
            2 => span().prop_map(|time| Step::Advance(time >> 6)),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn nothing_is_early_nothing_is_lost_and_nothing_is_told_twice(start in 0_u64..1 << 62, steps in steps()) {
            let mut wheel = Wheel::new(start);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = start;
            for step in steps {
                match step {
                    Step::Set(guest, ahead) => {
                        let deadline = now.saturating_add(ahead);
                        wheel.set(guest, deadline);
                        model.insert(guest, deadline);
                    }
                    Step::Clear(guest) => {
                        wheel.clear(guest);
                        model.remove(&guest);
                    }
                    Step::Advance(time) => {
                        now = now.saturating_add(time);
                        for guest in advance(&mut wheel, now) {
                            let deadline = model.remove(&guest);
                            prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "{guest} early");
                        }
                        let left = model.values().find(|&&deadline| deadline.saturating_add(2 * TICK) <= now);
                        prop_assert!(left.is_none(), "{left:?} at {now}");
                    }
                }
                let first = model.values().min().map(|&first| first.max(now).saturating_add(2 * TICK));
                prop_assert_eq!(wheel.next_ns().is_some(), first.is_some());
                prop_assert!(wheel.next_ns() <= first, "it would be late");
            }
            // Whoever sleeps until something is to be done each time hears of everything.
            while let Some(next) = wheel.next_ns().filter(|&next| next < u64::MAX) {
                for guest in advance(&mut wheel, next) {
                    prop_assert!(model.remove(&guest).is_some_and(|deadline| deadline <= next));
                }
            }
            prop_assert!(model.values().all(|&deadline| deadline > u64::MAX - TICK));
        }
    }
}
