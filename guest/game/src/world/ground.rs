//! The ground: a square with walls around it and blocks on it.

use crate::random::Random;

/// Length of the ground's sides in units.
pub const ARENA: u16 = 8192;
/// Parts of a unit in which places are kept.
pub(super) const FRACTION: i32 = 256;
/// How far a player's middle stays from walls and blocks, in units.
pub(super) const GIRTH: i32 = 64;

/// What stands on the ground: west, north, east and south ends, in units.
const BLOCKS: [[i32; 4]; 5] = [
    [3584, 3584, 4608, 4608],
    [1600, 2400, 2200, 2900],
    [5992, 2400, 6592, 2900],
    [1600, 5292, 2200, 5792],
    [5992, 5292, 6592, 5792],
];

/// A place, in 1/256 of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) x: i32,
    pub(super) y: i32,
}

impl Place {
    /// A place given in units.
    pub(super) fn at(x: u16, y: u16) -> Self {
        Self { x: i32::from(x) * FRACTION, y: i32::from(y) * FRACTION }
    }

    /// In units, as clients are told.
    pub(super) fn units(self) -> (u16, u16) {
        let units = |part: i32| (part / FRACTION).clamp(0, i32::from(ARENA)) as u16;
        (units(self.x), units(self.y))
    }

    /// Whether another place is at most `distance` units away.
    pub(super) fn is_near(self, other: Self, distance: i32) -> bool {
        let (x, y) = (i64::from(self.x - other.x), i64::from(self.y - other.y));
        let distance = i64::from(distance * FRACTION);
        x * x + y * y <= distance * distance
    }
}

/// Whether a player can stand at a place.
pub(super) fn is_free(place: Place) -> bool {
    has_room(place, GIRTH)
}

/// Whether there is nothing solid within `girth` units of a place, in either direction.
pub(super) fn has_room(place: Place, girth: i32) -> bool {
    let girth = girth * FRACTION;
    let end = i32::from(ARENA) * FRACTION - girth;
    let inside = girth..=end;
    let blocked = BLOCKS.iter().any(|block| {
        let [west, north, east, south] = block.map(|unit| unit * FRACTION);
        (west - girth < place.x && place.x < east + girth)
            && (north - girth < place.y && place.y < south + girth)
    });
    inside.contains(&place.x) && inside.contains(&place.y) && !blocked
}

/// Some place where a player can stand.
pub(super) fn free_place(random: &mut Random) -> Place {
    let mut coordinate = || random.below(u32::from(ARENA)) as u16;
    // Most of the ground is free: more attempts than these are never needed, but there is an end.
    for _ in 0..64 {
        let place = Place::at(coordinate(), coordinate());
        if is_free(place) {
            return place;
        }
    }
    Place::at(ARENA / 4, ARENA / 8)
}

/// East and south parts of a speed of 256 towards `facing`.
pub(super) fn direction(facing: u8) -> (i32, i32) {
    (sine(facing.wrapping_add(64)), sine(facing))
}

/// 256 times the sine of an angle of which 256 make a whole turn, by Bhaskara's formula.
fn sine(angle: u8) -> i32 {
    let half = i32::from(angle & 127);
    let product = half * (128 - half);
    let value = 4096 * product / (81_920 - 4 * product);
    if angle < 128 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions() {
        assert_eq!(direction(0), (256, 0));
        assert_eq!(direction(64), (0, 256));
        assert_eq!(direction(128), (-256, 0));
        assert_eq!(direction(192), (0, -256));
        let (east, south) = direction(32);
        assert!((178..=184).contains(&east) && (178..=184).contains(&south), "{east} {south}");
    }

    #[test]
    fn there_is_always_a_place() {
        for seed in 0..1000 {
            assert!(is_free(free_place(&mut Random::new(seed))));
        }
        assert!(is_free(Place::at(ARENA / 4, ARENA / 8)), "the last resort");
        assert!(!is_free(Place::at(0, 0)) && !is_free(Place::at(4096, 4096)));
    }
}
