//! From parts of snapshots to states.

use crate::delta;
use crate::protocol::SnapshotPart;
use crate::state::State;
use alloc::vec::Vec;

/// Ticks that are kept, for the next snapshots to differ from.
const KEPT: usize = 32;

/// What a part did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It came too late, or again, or what it differs from is not kept.
    Stale,
    /// No state can be made from it, or not the server's.
    Wrong,
    /// Other parts are missing.
    Incomplete,
    /// The state is complete.
    Complete,
}

/// The last states, and the one that is being assembled.
#[derive(Debug)]
pub(super) struct Assembly {
    /// The state of tick n, if it is kept, is at n modulo [`KEPT`].
    kept: Vec<Option<(u32, State)>>,
    last: Option<u32>,
    pending: Option<Pending>,
    /// A state whose memory is used again.
    spare: Option<State>,
}

/// A snapshot of which parts are missing.
#[derive(Debug)]
struct Pending {
    tick: u32,
    back: u8,
    parts: u8,
    digest: u32,
    /// A bit for each part that has come.
    seen: u8,
    state: State,
}

impl Default for Assembly {
    fn default() -> Self {
        Self { kept: (0..KEPT).map(|_| None).collect(), last: None, pending: None, spare: None }
    }
}

impl Assembly {
    /// The last complete state and its tick.
    pub(super) fn last(&self) -> Option<(u32, &State)> {
        self.get(self.last?)
    }

    /// Takes in a part.
    pub(super) fn add(&mut self, part: &SnapshotPart<'_>) -> Outcome {
        if self.last.is_some_and(|last| part.tick <= last) {
            return Outcome::Stale;
        }
        let mut pending = match self.pending.take() {
            Some(pending) if pending.tick > part.tick => {
                self.pending = Some(pending);
                return Outcome::Stale;
            }
            Some(pending) if pending.belongs(part) => pending,
            other => match self.begin(part, other) {
                Some(pending) => pending,
                None => return Outcome::Stale,
            },
        };
        let bit = 1 << part.part;
        if pending.seen & bit != 0 {
            self.pending = Some(pending);
            return Outcome::Stale;
        }
        pending.seen |= bit;
        if delta::apply(&mut pending.state, part.entries).is_none() {
            self.spare = Some(pending.state);
            return Outcome::Wrong;
        }
        if pending.seen.count_ones() < u32::from(pending.parts) {
            self.pending = Some(pending);
            return Outcome::Incomplete;
        }
        self.finish(pending)
    }

    fn get(&self, tick: u32) -> Option<(u32, &State)> {
        let (kept, state) = self.kept[tick as usize % KEPT].as_ref()?;
        (*kept == tick).then_some((tick, state))
    }

    /// Begins the snapshot that a part belongs to, in place of `other`, if its base is kept.
    fn begin(&mut self, part: &SnapshotPart<'_>, other: Option<Pending>) -> Option<Pending> {
        let spare = other.map(|other| other.state).or_else(|| self.spare.take());
        let mut state = spare.unwrap_or_default();
        match part.back {
            0 => state.clear(),
            back => match self.get(part.tick - u32::from(back)) {
                Some((_, base)) => state.copy_from(base),
                None => {
                    self.spare = Some(state);
                    return None;
                }
            },
        }
        let SnapshotPart { tick, back, parts, digest, .. } = *part;
        Some(Pending { tick, back, parts, digest, seen: 0, state })
    }

    fn finish(&mut self, pending: Pending) -> Outcome {
        if pending.state.digest() != pending.digest {
            self.spare = Some(pending.state);
            return Outcome::Wrong;
        }
        let place = &mut self.kept[pending.tick as usize % KEPT];
        self.spare = place.replace((pending.tick, pending.state)).map(|(_, state)| state);
        self.last = Some(pending.tick);
        Outcome::Complete
    }
}

impl Pending {
    fn belongs(&self, part: &SnapshotPart<'_>) -> bool {
        (self.tick, self.back, self.parts, self.digest)
            == (part.tick, part.back, part.parts, part.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Delta;
    use crate::state::{Entity, Kind};

    /// A state of `count` players.
    fn state(count: u8) -> State {
        let mut state = State::default();
        (0..count).for_each(|n| state.set(n, Entity { kind: Kind::Player, ..Entity::default() }));
        state
    }

    fn part<'a>(tick: u32, back: u8, digest: u32, delta: &'a Delta, part: u8) -> SnapshotPart<'a> {
        let parts = delta.parts().len() as u8;
        let entries = &delta.parts()[usize::from(part)];
        SnapshotPart { nonce: 0, tick, back, part, parts, sequence: 0, digest, entries }
    }

    fn delta(from: &State, to: &State) -> Delta {
        let mut delta = Delta::default();
        delta.compute(from, to, 40);
        delta
    }

    #[test]
    fn parts_come_in_any_order_and_again() {
        let to = state(20);
        let delta = delta(&State::default(), &to);
        let of = |number| part(5, 0, to.digest(), &delta, number);
        assert!(delta.parts().len() > 2);
        let mut assembly = Assembly::default();
        for number in (1..delta.parts().len() as u8).rev() {
            assert_eq!(assembly.add(&of(number)), Outcome::Incomplete);
            assert_eq!(assembly.add(&of(number)), Outcome::Stale);
        }
        assert_eq!(assembly.add(&of(0)), Outcome::Complete);
        assert_eq!(assembly.last(), Some((5, &to)));
        assert_eq!(assembly.add(&of(0)), Outcome::Stale);
    }

    #[test]
    fn a_newer_snapshot_takes_the_place_of_one_that_is_not_complete() {
        let (to, more) = (state(20), state(1));
        let (first, second) = (delta(&State::default(), &to), delta(&State::default(), &more));
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(&part(5, 0, to.digest(), &first, 0)), Outcome::Incomplete);
        assert_eq!(assembly.add(&part(6, 0, more.digest(), &second, 0)), Outcome::Complete);
        assert_eq!(assembly.add(&part(5, 0, to.digest(), &first, 1)), Outcome::Stale);
        assert_eq!(assembly.last(), Some((6, &more)));
    }

    #[test]
    fn what_differs_from_a_state_that_is_not_kept_is_of_no_use() {
        let to = state(1);
        let delta = delta(&State::default(), &to);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(&part(9, 3, to.digest(), &delta, 0)), Outcome::Stale);
        assert_eq!(assembly.add(&part(6, 0, to.digest(), &delta, 0)), Outcome::Complete);
        let same = Delta::default();
        assert!(same.parts().is_empty());
    }

    #[test]
    fn a_state_that_is_not_the_servers_is_not_kept() {
        let to = state(1);
        let delta = delta(&State::default(), &to);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(&part(6, 0, !to.digest(), &delta, 0)), Outcome::Wrong);
        assert_eq!(assembly.last(), None);
        assert_eq!(assembly.add(&part(6, 0, to.digest(), &delta, 0)), Outcome::Complete);
    }
}
