//! A player that is a program: it wanders, and shoots at whoever is nearest.

use crate::protocol::Command;
use crate::random::Random;
use crate::state::{Entity, Kind, State};

/// Commands between two changes of mind, at most.
const PATIENCE: u32 = 40;

/// A bot. The same seed and the same worlds make the same commands.
#[derive(Clone, Debug)]
pub struct Bot {
    random: Random,
    /// Where it goes, and for how many commands yet.
    way: (i8, i8),
    left: u32,
}

impl Bot {
    /// A bot.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), way: (0, 0), left: 0 }
    }

    /// What it wants to do as player `number`.
    pub fn wish(&mut self, state: &State, number: u8) -> Command {
        if self.left == 0 {
            self.left = 1 + self.random.below(PATIENCE);
            let way = self.random.next();
            self.way = ((way as i8).max(-127), ((way >> 8) as i8).max(-127));
        }
        self.left -= 1;
        let own = state.get(number);
        let others =
            state.present().filter(|(other, it)| *other != number && it.kind == Kind::Player);
        let nearest = others.map(|(_, other)| other).min_by_key(|other| distance(own, other));
        let facing = nearest.map_or(0, |other| towards(own, other));
        let fire = nearest.is_some() && self.random.below(4) == 0;
        Command { east: self.way.0, south: self.way.1, facing, fire }
    }
}

fn distance(one: &Entity, other: &Entity) -> u32 {
    u32::from(one.x.abs_diff(other.x)) + u32::from(one.y.abs_diff(other.y))
}

/// Roughly where `other` is from `one`: 64 times the part that the smaller of two distances is of both.
fn towards(one: &Entity, other: &Entity) -> u8 {
    let (east, south) =
        (i32::from(other.x) - i32::from(one.x), i32::from(other.y) - i32::from(one.y));
    let both = (east.abs() + south.abs()).max(1);
    let part = |of: i32| (64 * of.abs() / both) as u8;
    match (east >= 0, south >= 0) {
        (true, true) => part(south),
        (false, true) => 64 + part(east),
        (false, false) => 128 + part(south),
        (true, false) => 192_u8.wrapping_add(part(east)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_at_the_nearest_other_player() {
        let mut state = State::default();
        let mut add = |number, x, y| {
            state.set(number, Entity { kind: Kind::Player, x, y, ..Entity::default() });
        };
        add(0, 4000, 4000);
        add(1, 4000, 5000);
        add(2, 4000, 100);
        let mut bot = Bot::new(3);
        assert_eq!(bot.wish(&state, 0).facing, 64, "south");
        assert_eq!(bot.wish(&state, 1).facing, 192, "north");
        let commands: alloc::vec::Vec<_> = (0..200).map(|_| bot.wish(&state, 0)).collect();
        assert!(commands.iter().any(|it| it.fire) && commands.iter().any(|it| !it.fire));
        assert!(commands.iter().any(|it| it.east > 0) && commands.iter().any(|it| it.east < 0));
    }
}
