//! The worlds of the last ticks, from which differences are taken.

use crate::state::State;
use alloc::vec::Vec;

/// Ticks that are kept. A client that is farther behind gets the whole state.
pub(crate) const KEPT: u32 = 32;

/// The last ticks. Tick 0 is the empty state, before the first.
#[derive(Debug)]
pub(super) struct History {
    tick: u32,
    /// The state of tick n is at n modulo [`KEPT`].
    states: Vec<State>,
    empty: State,
}

impl Default for History {
    fn default() -> Self {
        let states = (0..KEPT).map(|_| State::default()).collect();
        Self { tick: 0, states, empty: State::default() }
    }
}

impl History {
    /// Adds the next tick's state, which `show` writes over an old one.
    pub(super) fn add(&mut self, show: impl FnOnce(&mut State)) {
        self.tick = self.tick.wrapping_add(1);
        show(&mut self.states[(self.tick % KEPT) as usize]);
    }

    /// The last tick and its state.
    pub(super) fn last(&self) -> (u32, &State) {
        (self.tick, &self.states[(self.tick % KEPT) as usize])
    }

    /// What a snapshot of the last tick is to differ from, for a client that has tick `has`: how many ticks
    /// before, and the state; 0 and the empty one if `has` is not kept.
    pub(super) fn base(&self, has: Option<u32>) -> (u8, &State) {
        let back = has.filter(|&has| has > 0).map(|has| self.tick.wrapping_sub(has));
        match back.filter(|back| (1..KEPT).contains(back)) {
            Some(back) => {
                (back as u8, &self.states[(self.tick.wrapping_sub(back) % KEPT) as usize])
            }
            None => (0, &self.empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Entity, Kind};

    #[test]
    fn the_last_ticks_are_kept() {
        let mut history = History::default();
        assert_eq!(history.last(), (0, &State::default()));
        for tick in 1..=100_u16 {
            let entity = Entity { kind: Kind::Player, x: tick, ..Entity::default() };
            history.add(|state| state.set(0, entity));
        }
        let x = |has| {
            let (back, base) = history.base(has);
            (back, base.get(0).x)
        };
        assert_eq!((history.last().0, history.last().1.get(0).x), (100, 100));
        assert_eq!((x(Some(99)), x(Some(69))), ((1, 99), (31, 69)));
        for not_kept in [None, Some(0), Some(68), Some(100), Some(101), Some(u32::MAX)] {
            assert_eq!(x(not_kept), (0, 0), "{not_kept:?}");
        }
    }
}
