//! Shots.

use super::ground::{self, FRACTION, Place};
use crate::state::{Entity, Kind};

/// Units per second.
const SPEED: i32 = 2400;
/// Seconds that a shot flies at most.
const LIFE_S: u32 = 2;
/// How close to a player's middle a shot hits, in units.
const REACH: i32 = 110;

/// A shot on its way.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    /// Its entity's number.
    pub(super) number: u8,
    /// Who shot.
    pub(super) owner: u8,
    /// Where it was before the last tick, and where it is.
    before: Place,
    place: Place,
    /// Units per second.
    speed: (i32, i32),
    /// Ticks left.
    life: u32,
}

impl Shot {
    pub(super) fn new(number: u8, owner: u8, place: Place, facing: u8, hz: u32) -> Self {
        let (east, south) = ground::direction(facing);
        let speed = (east * SPEED / 256, south * SPEED / 256);
        Self { number, owner, before: place, place, speed, life: LIFE_S * hz }
    }

    /// Flies for one tick. False when its way ends, after its time or at something solid.
    pub(super) fn fly(&mut self, hz: u32) -> bool {
        let hz = hz as i32;
        self.before = self.place;
        self.place.x += self.speed.0 * FRACTION / hz;
        self.place.y += self.speed.1 * FRACTION / hz;
        self.life = self.life.saturating_sub(1);
        self.life > 0 && ground::has_room(self.place, 0)
    }

    /// Whether its last way comes close enough to a place.
    pub(super) fn passes(&self, place: Place) -> bool {
        let (dx, dy) = (self.place.x - self.before.x, self.place.y - self.before.y);
        let length = i64::from(dx) * i64::from(dx) + i64::from(dy) * i64::from(dy);
        let (px, py) = (place.x - self.before.x, place.y - self.before.y);
        let along = i64::from(px) * i64::from(dx) + i64::from(py) * i64::from(dy);
        // The point of the way that is nearest, which is an end of it if the perpendicular is outside.
        let along = along.clamp(0, length);
        let part = |way: i32| (i64::from(way) * along / length.max(1)) as i32;
        let nearest = Place { x: self.before.x + part(dx), y: self.before.y + part(dy) };
        nearest.is_near(place, REACH)
    }

    pub(super) fn show(&self) -> Entity {
        let (x, y) = self.place.units();
        Entity {
            kind: Kind::Shot,
            owner: self.owner,
            x,
            y,
            vx: self.speed.0 as i16,
            vy: self.speed.1 as i16,
            ..Entity::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shot_hits_what_lies_on_its_way_however_far_it_flies_in_a_tick() {
        let mut shot = Shot::new(99, 0, Place::at(700, 700), 0, 1);
        assert!(shot.fly(1), "2400 units in one tick");
        assert!(shot.passes(Place::at(1500, 700)) && shot.passes(Place::at(1500, 800)));
        assert!(!shot.passes(Place::at(1500, 900)), "beside the way");
        assert!(!shot.passes(Place::at(580, 700)), "behind where it began");
        assert!(!shot.passes(Place::at(3300, 700)), "beyond where it is");
    }

    #[test]
    fn a_shot_ends_at_walls_and_after_its_time() {
        let mut shot = Shot::new(99, 0, Place::at(4096, 3500), 64, 30);
        assert!((0..2).any(|_| !shot.fly(30)), "a block is just south of it");
        let mut shot = Shot::new(99, 0, Place::at(700, 700), 0, 30);
        let ticks = (0..200).take_while(|_| shot.fly(30)).count();
        assert_eq!(ticks, 59);
    }
}
