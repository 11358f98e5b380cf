//! What a client can know of the world at one tick: every entity, as it is sent.

use alloc::boxed::Box;

/// Most entities of a world; their numbers are below it.
pub const ENTITIES: usize = 256;

/// What an entity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// There is no entity of this number.
    #[default]
    Absent = 0,
    /// Somebody who plays; the number is the client's.
    Player = 1,
    /// A shot on its way.
    Shot = 2,
    /// Something that heals who walks over it.
    Remedy = 3,
}

impl Kind {
    /// The kind that a byte means.
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [Self::Absent, Self::Player, Self::Shot, Self::Remedy].into_iter().nth(byte.into())
    }
}

/// An entity. One that is absent has all fields 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// What it is.
    pub kind: Kind,
    /// The client whose shot it is; a player's own number.
    pub owner: u8,
    /// Where it is, in units from the west; at most [`crate::ARENA`].
    pub x: u16,
    /// Where it is, in units from the north; at most [`crate::ARENA`].
    pub y: u16,
    /// Its speed to the east, in units per second.
    pub vx: i16,
    /// Its speed to the south, in units per second.
    pub vy: i16,
    /// Where it looks: 0 east, 64 south, 128 west, 192 north.
    pub facing: u8,
    /// How well it is: 0 to 100; a player without health waits to be back.
    pub health: u8,
    /// How many others it has shot down.
    pub score: u16,
}

impl Entity {
    /// Whether there is such an entity.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.kind != Kind::Absent
    }
}

/// All entities at one tick, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    entities: Box<[Entity; ENTITIES]>,
}

impl Default for State {
    fn default() -> Self {
        Self { entities: Box::new([Entity::default(); ENTITIES]) }
    }
}

impl State {
    /// The entity of a number.
    #[must_use]
    pub fn get(&self, number: u8) -> &Entity {
        &self.entities[usize::from(number)]
    }

    /// The entities that are present, with their numbers.
    pub fn present(&self) -> impl Iterator<Item = (u8, &Entity)> {
        self.all().filter(|(_, entity)| entity.is_present())
    }

    /// A number for the whole state: equal states have equal digests, and others hardly ever.
    #[must_use]
    pub fn digest(&self) -> u32 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |word: u64| {
            digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        };
        for (number, entity) in self.present() {
            let place = u64::from(entity.x) | u64::from(entity.y) << 16;
            let speed = u64::from(entity.vx as u16) | u64::from(entity.vy as u16) << 16;
            let who = u64::from(number) | (entity.kind as u64) << 8 | u64::from(entity.owner) << 16;
            let how = u64::from(entity.facing) | u64::from(entity.health) << 8;
            add(place | speed << 32);
            add(who | how << 24 | u64::from(entity.score) << 40);
        }
        (digest ^ digest >> 32) as u32
    }

    /// All numbers, with the entities that may be there.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u8, &Entity)> {
        (0..=u8::MAX).zip(self.entities.iter())
    }

    pub(crate) fn set(&mut self, number: u8, entity: Entity) {
        self.entities[usize::from(number)] = entity;
    }

    pub(crate) fn clear(&mut self) {
        self.entities.fill(Entity::default());
    }

    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.entities.copy_from_slice(&other.entities[..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_the_digest() {
        let player = Entity { kind: Kind::Player, ..Entity::default() };
        let others = [
            Entity { kind: Kind::Shot, ..player },
            Entity { owner: 1, ..player },
            Entity { x: 1, ..player },
            Entity { y: 1, ..player },
            Entity { vx: -1, ..player },
            Entity { vy: -1, ..player },
            Entity { facing: 1, ..player },
            Entity { health: 1, ..player },
            Entity { score: 1, ..player },
        ];
        let digest = |number, entity| {
            let mut state = State::default();
            state.set(number, entity);
            state.digest()
        };
        let first = digest(0, player);
        assert_ne!(first, State::default().digest());
        assert_ne!(first, digest(1, player), "the number counts too");
        for other in others {
            assert_ne!(first, digest(0, other), "{other:?}");
        }
    }
}
