//! Players.

use super::ground::{self, FRACTION, Place};
use crate::protocol::Command;
use crate::state::{Entity, Kind};

/// Full speed in units per second.
const SPEED: i32 = 960;
/// How fast speed changes, in units per second in a second.
const ACCELERATION: i32 = 6400;
/// Health of who is well.
const HEALTH: u8 = 100;
/// ms between two shots.
const RELOAD_MS: u32 = 250;
/// ms for which who was shot down is out.
const OUT_MS: u32 = 1500;

/// Somebody who plays.
#[derive(Clone, Debug)]
pub(super) struct Player {
    pub(super) place: Place,
    /// Units per second.
    speed: (i32, i32),
    pub(super) command: Command,
    pub(super) health: u8,
    pub(super) score: u16,
    /// Ticks until the next shot.
    reloading: u32,
    /// Ticks until the player is back.
    out: u32,
}

impl Player {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            speed: (0, 0),
            command: Command::default(),
            health: HEALTH,
            score: 0,
            reloading: 0,
            out: 0,
        }
    }

    /// Whether it was shot down and is not back.
    pub(super) fn is_out(&self) -> bool {
        self.health == 0
    }

    /// A tick passes while it is out. True when it may come back.
    pub(super) fn wait(&mut self) -> bool {
        self.out = self.out.saturating_sub(1);
        self.out == 0
    }

    pub(super) fn come_back(&mut self, place: Place) {
        self.place = place;
        self.health = HEALTH;
    }

    pub(super) fn facing(&self) -> u8 {
        self.command.facing
    }

    /// Walks for one tick, and stops at what is solid.
    pub(super) fn walk(&mut self, hz: u32) {
        let hz = hz as i32;
        let towards = |speed: i32, wish: i8| {
            let change = i32::from(wish) * SPEED / 127 - speed;
            let most = (ACCELERATION / hz).max(1);
            speed + change.clamp(-most, most)
        };
        self.speed.0 = towards(self.speed.0, self.command.east);
        self.speed.1 = towards(self.speed.1, self.command.south);
        let next = Place { x: self.place.x + self.speed.0 * FRACTION / hz, ..self.place };
        if ground::is_free(next) {
            self.place = next;
        } else {
            self.speed.0 = 0;
        }
        let next = Place { y: self.place.y + self.speed.1 * FRACTION / hz, ..self.place };
        if ground::is_free(next) {
            self.place = next;
        } else {
            self.speed.1 = 0;
        }
    }

    /// A tick passes for its weapon. True if it shoots.
    pub(super) fn shoots(&mut self, hz: u32) -> bool {
        self.reloading = self.reloading.saturating_sub(1);
        let shoots = self.command.fire && self.reloading == 0;
        if shoots {
            self.reloading = ticks(RELOAD_MS, hz);
        }
        shoots
    }

    /// Is healed, if it can use it.
    pub(super) fn heal(&mut self, by: u8) -> bool {
        let can = self.health < HEALTH;
        self.health = self.health.saturating_add(by).min(HEALTH);
        can
    }

    /// Is hurt. True if that was the end of it.
    pub(super) fn hurt(&mut self, by: u8, hz: u32) -> bool {
        self.health = self.health.saturating_sub(by);
        if self.is_out() {
            self.out = ticks(OUT_MS, hz);
            self.speed = (0, 0);
        }
        self.is_out()
    }

    pub(super) fn show(&self, number: u8) -> Entity {
        let (x, y) = self.place.units();
        Entity {
            kind: Kind::Player,
            owner: number,
            x,
            y,
            vx: self.speed.0 as i16,
            vy: self.speed.1 as i16,
            facing: self.command.facing,
            health: self.health,
            score: self.score,
        }
    }
}

fn ticks(ms: u32, hz: u32) -> u32 {
    (ms * hz / 1000).max(1)
}
