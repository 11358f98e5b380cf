//! Differences between two states, in parts that fit into datagrams.
//!
//! An entry is an entity's number, a byte that says which fields follow, and these; the byte 0 means that
//! the entity is gone. An entity that was not there differs from one whose fields are all 0.

use crate::bytes::{Reader, Writer};
use crate::state::{Entity, Kind, State};
use crate::world::ARENA;
use alloc::vec::Vec;

const KIND: u8 = 1;
const X: u8 = 1 << 1;
const Y: u8 = 1 << 2;
const VX: u8 = 1 << 3;
const VY: u8 = 1 << 4;
const FACING: u8 = 1 << 5;
const HEALTH: u8 = 1 << 6;
const SCORE: u8 = 1 << 7;

/// Bytes of the longest entry.
const ENTRY_MAX: usize = 2 + 14;

/// The difference from one state to another, in parts. Buffers are kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    parts: Vec<Vec<u8>>,
    used: usize,
}

impl Delta {
    /// Becomes the difference from `base` to `state`, in parts of at most `limit` bytes, which is at
    /// least an entry's. There is at least one part.
    pub(crate) fn compute(&mut self, base: &State, state: &State, limit: usize) {
        self.used = 0;
        self.next_part();
        for ((number, old), (_, new)) in base.all().zip(state.all()) {
            if old == new {
                continue;
            }
            if self.parts[self.used - 1].len() + ENTRY_MAX > limit {
                self.next_part();
            }
            encode(number, old, new, &mut self.parts[self.used - 1]);
        }
    }

    /// The parts.
    pub(crate) fn parts(&self) -> &[Vec<u8>] {
        &self.parts[..self.used]
    }

    fn next_part(&mut self) {
        if self.used == self.parts.len() {
            self.parts.push(Vec::new());
        }
        self.parts[self.used].clear();
        self.used += 1;
    }
}

fn encode(number: u8, old: &Entity, new: &Entity, out: &mut Vec<u8>) {
    out.u8(number);
    if !new.is_present() {
        out.u8(0);
        return;
    }
    let differs = |bit, is: bool| if is { bit } else { 0 };
    let fields = differs(KIND, (old.kind, old.owner) != (new.kind, new.owner))
        | differs(X, old.x != new.x)
        | differs(Y, old.y != new.y)
        | differs(VX, old.vx != new.vx)
        | differs(VY, old.vy != new.vy)
        | differs(FACING, old.facing != new.facing)
        | differs(HEALTH, old.health != new.health)
        | differs(SCORE, old.score != new.score);
    out.u8(fields);
    let has = |bit| fields & bit != 0;
    if has(KIND) {
        out.u8(new.kind as u8);
        out.u8(new.owner);
    }
    if has(X) {
        out.u16(new.x);
    }
    if has(Y) {
        out.u16(new.y);
    }
    if has(VX) {
        out.i16(new.vx);
    }
    if has(VY) {
        out.i16(new.vy);
    }
    if has(FACING) {
        out.u8(new.facing);
    }
    if has(HEALTH) {
        out.u8(new.health);
    }
    if has(SCORE) {
        out.u16(new.score);
    }
}

/// Applies a part of a difference. `None` if it is none to this state, which is then of no use.
pub(crate) fn apply(state: &mut State, part: &[u8]) -> Option<()> {
    let mut reader = Reader::new(part);
    let mut least = 0;
    while reader.end().is_none() {
        let number = reader.u8()?;
        if u16::from(number) < least {
            return None;
        }
        least = u16::from(number) + 1;
        let entity = decode(state.get(number), &mut reader)?;
        state.set(number, entity);
    }
    Some(())
}

fn decode(old: &Entity, reader: &mut Reader<'_>) -> Option<Entity> {
    let fields = reader.u8()?;
    if fields == 0 {
        return old.is_present().then(Entity::default);
    }
    let mut new = *old;
    let has = |bit| fields & bit != 0;
    if has(KIND) {
        new.kind = Kind::of(reader.u8()?)?;
        new.owner = reader.u8()?;
    }
    if has(X) {
        new.x = reader.u16()?;
    }
    if has(Y) {
        new.y = reader.u16()?;
    }
    if has(VX) {
        new.vx = reader.i16()?;
    }
    if has(VY) {
        new.vy = reader.i16()?;
    }
    if has(FACING) {
        new.facing = reader.u8()?;
    }
    if has(HEALTH) {
        new.health = reader.u8()?;
    }
    if has(SCORE) {
        new.score = reader.u16()?;
    }
    (new.is_present() && new.x <= ARENA && new.y <= ARENA).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn entity()(
            kind in 1_u8..4, owner: u8, x in 0..=ARENA, y in 0..=ARENA, vx: i16, vy: i16,
            facing: u8, health: u8, score: u16,
        ) -> Entity {
            let kind = Kind::of(kind).unwrap();
            Entity { kind, owner, x, y, vx, vy, facing, health, score }
        }
    }

    prop_compose! {
        fn state()(entities in prop::collection::vec((any::<u8>(), entity()), 0..300)) -> State {
            let mut state = State::default();
            for (number, entity) in entities {
                state.set(number, entity);
            }
            state
        }
    }

    /// Two states of which many entities differ in few fields.
    fn similar() -> impl Strategy<Value = (State, State)> {
        let changes = prop::collection::vec((any::<u8>(), 0..6_u8, any::<u8>()), 0..100);
        (state(), changes).prop_map(|(base, changes)| {
            let mut state = base.clone();
            for (number, what, value) in changes {
                let mut entity = *state.get(number);
                match what {
                    0 => entity = Entity::default(),
                    _ if !entity.is_present() => continue,
                    1 => entity.x = u16::from(value),
                    2 => entity.vy = i16::from(value),
                    3 => entity.facing = value,
                    4 => entity.health = value,
                    _ => entity.score = u16::from(value),
                }
                state.set(number, entity);
            }
            (base, state)
        })
    }

    fn check(base: &State, state: &State, limit: usize) -> Result<(), TestCaseError> {
        let mut delta = Delta::default();
        // What the buffers held before must not matter.
        delta.compute(state, base, limit);
        delta.compute(base, state, limit);
        prop_assert!(!delta.parts().is_empty());
        let mut rebuilt = base.clone();
        // Parts may come in any order.
        for part in delta.parts().iter().rev() {
            prop_assert!(part.len() <= limit);
            prop_assert!(apply(&mut rebuilt, part).is_some());
        }
        prop_assert_eq!(rebuilt.digest(), state.digest());
        prop_assert!(rebuilt == *state);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_state_to_the_other(
            base in state(), state in state(), limit in ENTRY_MAX..1500,
        ) {
            check(&base, &state, limit)?;
        }

        #[test]
        fn a_difference_leads_to_a_similar_state((base, state) in similar(), limit in 16_usize..200) {
            check(&base, &state, limit)?;
        }

        #[test]
        fn any_bytes_leave_a_state_that_could_be(base in state(), part: Vec<u8>) {
            let mut state = base;
            let _ = apply(&mut state, &part);
            for (_, entity) in state.all() {
                prop_assert!(entity.is_present() || *entity == Entity::default());
                prop_assert!(entity.x <= ARENA && entity.y <= ARENA);
            }
        }
    }

    #[test]
    fn equal_states_differ_in_nothing() {
        let mut delta = Delta::default();
        delta.compute(&State::default(), &State::default(), 100);
        assert_eq!(delta.parts(), [Vec::new()]);
    }

    #[test]
    fn differences_that_cannot_be_are_refused() {
        let fresh = [7, KIND, Kind::Player as u8, 7];
        let mut state = State::default();
        assert!(apply(&mut state, &fresh).is_some());
        let wrong: [&[u8]; 8] = [
            &[8, 0],
            &[8, X, 1, 0],
            &[8, KIND, 4, 0],
            &[8, KIND, 0, 0],
            &[7, X, 1],
            &[7],
            &[7, X, 0xff, 0xff],
            &[7, FACING, 1, 7, FACING, 2],
        ];
        for part in wrong {
            assert!(apply(&mut state.clone(), part).is_none(), "{part:?}");
        }
    }
}
