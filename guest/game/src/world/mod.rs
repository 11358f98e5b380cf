//! The world: players who walk and shoot, and remedies for those who were hit. One step is one tick; the
//! same commands at the same steps always make the same world.
//!
//! Places are kept in 1/256 of a unit, so that slow movement is not lost; clients are told whole units.

mod ground;
mod player;
mod shot;

pub use ground::ARENA;

use crate::protocol::Command;
use crate::random::Random;
use crate::state::{Entity, Kind, State};
use alloc::vec::Vec;
use ground::Place;
use player::Player;
use shot::Shot;

/// Most players; a player's entity has the player's number.
pub(crate) const PLAYERS: usize = 64;
/// Entity of the first remedy.
const FIRST_REMEDY: u8 = PLAYERS as u8;
/// Entity of the first shot; all above may be shots.
const FIRST_SHOT: u8 = FIRST_REMEDY + REMEDIES.len() as u8;
/// Where remedies lie.
const REMEDIES: [(u16, u16); 8] = [
    (1024, 1024),
    (4096, 700),
    (7168, 1024),
    (700, 4096),
    (7492, 4096),
    (1024, 7168),
    (4096, 7492),
    (7168, 7168),
];
/// How close one must come to take a remedy, in units.
const REACH: i32 = 160;
/// What a remedy adds to one's health.
const HEALS: u8 = 40;
/// What a shot takes from one's health.
const HURTS: u8 = 25;
/// Seconds until a remedy is there again.
const REGROWTH_S: u32 = 8;

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    hz: u32,
    random: Random,
    players: [Option<Player>; PLAYERS],
    shots: Vec<Shot>,
    /// Ticks until each remedy is there.
    growing: [u32; REMEDIES.len()],
}

impl World {
    /// An empty world that moves `hz` times per second, at least once; `seed` decides where players appear.
    #[must_use]
    pub fn new(hz: u32, seed: u64) -> Self {
        Self {
            hz: hz.max(1),
            random: Random::new(seed),
            players: [const { None }; PLAYERS],
            shots: Vec::new(),
            growing: [0; REMEDIES.len()],
        }
    }

    /// A player appears, or begins anew.
    pub fn join(&mut self, player: u8) {
        if let Some(place) = self.players.get_mut(usize::from(player)) {
            *place = Some(Player::new(ground::free_place(&mut self.random)));
        }
    }

    /// A player and its shots vanish.
    pub fn leave(&mut self, player: u8) {
        if let Some(place) = self.players.get_mut(usize::from(player)) {
            *place = None;
        }
        self.shots.retain(|shot| shot.owner != player);
    }

    /// Says what a player wants to do from the next step on.
    pub fn command(&mut self, player: u8, command: Command) {
        if let Some(Some(player)) = self.players.get_mut(usize::from(player)) {
            player.command = command;
        }
    }

    /// One tick passes.
    pub fn step(&mut self) {
        self.regrow();
        for number in 0..PLAYERS as u8 {
            self.step_player(number);
        }
        self.step_shots();
    }

    /// Replaces `state` by what clients can know.
    pub fn show(&self, state: &mut State) {
        state.clear();
        for (number, player) in (0_u8..).zip(&self.players) {
            if let Some(player) = player {
                state.set(number, player.show(number));
            }
        }
        for ((number, &(x, y)), &growing) in (FIRST_REMEDY..).zip(&REMEDIES).zip(&self.growing) {
            if growing == 0 {
                state.set(number, Entity { kind: Kind::Remedy, x, y, ..Entity::default() });
            }
        }
        for shot in &self.shots {
            state.set(shot.number, shot.show());
        }
    }

    fn regrow(&mut self) {
        for growing in &mut self.growing {
            *growing = growing.saturating_sub(1);
        }
    }

    fn step_player(&mut self, number: u8) {
        let Some(player) = &mut self.players[usize::from(number)] else { return };
        if player.is_out() {
            if player.wait() {
                player.come_back(ground::free_place(&mut self.random));
            }
            return;
        }
        player.walk(self.hz);
        for (growing, &(x, y)) in self.growing.iter_mut().zip(&REMEDIES) {
            if *growing == 0 && player.place.is_near(Place::at(x, y), REACH) && player.heal(HEALS) {
                *growing = REGROWTH_S * self.hz;
            }
        }
        if player.shoots(self.hz)
            && let Some(entity) = free_number(&self.shots)
        {
            self.shots.push(Shot::new(entity, number, player.place, player.facing(), self.hz));
        }
    }

    fn step_shots(&mut self) {
        let mut shots = core::mem::take(&mut self.shots);
        shots.retain_mut(|shot| shot.fly(self.hz) && !self.hit(shot));
        self.shots = shots;
    }

    /// Whether a shot hits somebody on its last way; then it does.
    fn hit(&mut self, shot: &Shot) -> bool {
        let others = (0_u8..).zip(&mut self.players).filter(|(number, _)| *number != shot.owner);
        let mut others = others.filter_map(|(_, player)| player.as_mut());
        let Some(player) = others.find(|it| !it.is_out() && shot.passes(it.place)) else {
            return false;
        };
        if player.hurt(HURTS, self.hz)
            && let Some(Some(owner)) = self.players.get_mut(usize::from(shot.owner))
        {
            owner.score = owner.score.saturating_add(1);
        }
        true
    }
}

/// An entity's number for one more shot.
fn free_number(shots: &[Shot]) -> Option<u8> {
    (FIRST_SHOT..=u8::MAX).find(|&number| shots.iter().all(|shot| shot.number != number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Command;
    use proptest::prelude::*;

    const HZ: u32 = 30;

    fn shown(world: &World) -> State {
        let mut state = State::default();
        world.show(&mut state);
        state
    }

    /// A world with two players, the second of which stands 1000 units east of the first.
    fn duel() -> World {
        let mut world = World::new(HZ, 1);
        for (number, x) in [(0, 2400), (1, 3400)] {
            world.join(number);
            world.players[usize::from(number)].as_mut().unwrap().place = Place::at(x, 1600);
        }
        world
    }

    #[test]
    fn a_player_walks_where_it_wants_and_stops() {
        let mut world = duel();
        world.command(0, Command { south: 127, facing: 64, ..Command::default() });
        (0..HZ).for_each(|_| world.step());
        let moving = *shown(&world).get(0);
        assert!(moving.y > 1600 + 500 && moving.x == 2400 && moving.vy > 0, "{moving:?}");
        world.command(0, Command::default());
        (0..HZ).for_each(|_| world.step());
        let still = *shown(&world).get(0);
        assert_eq!((still.vx, still.vy), (0, 0));
        world.step();
        assert_eq!(*shown(&world).get(0), still);
    }

    #[test]
    fn shots_hurt_who_is_hit_and_count_for_who_shot() {
        let mut world = duel();
        world.command(0, Command { facing: 0, fire: true, ..Command::default() });
        let mut seen = false;
        for _ in 0..HZ * 5 {
            world.step();
            let state = shown(&world);
            seen |= state.present().any(|(_, entity)| entity.kind == Kind::Shot);
            if state.get(0).score == 1 {
                assert!(seen, "shots can be seen");
                assert_eq!((state.get(1).health, state.get(0).health), (0, 100));
                (0..HZ * 3).for_each(|_| world.step());
                assert!(shown(&world).get(1).health > 0, "who is out comes back");
                return;
            }
        }
        panic!("nobody was shot down: {world:?}");
    }

    #[test]
    fn remedies_heal_and_grow_again() {
        let mut world = duel();
        let player = world.players[0].as_mut().unwrap();
        player.place = Place::at(1024, 1024);
        player.health = 50;
        world.step();
        let state = shown(&world);
        assert_eq!(state.get(0).health, 90);
        assert!(!state.get(FIRST_REMEDY).is_present());
        world.players[0].as_mut().unwrap().place = Place::at(2000, 2000);
        (0..REGROWTH_S * HZ).for_each(|_| world.step());
        assert!(shown(&world).get(FIRST_REMEDY).is_present());
    }

    #[test]
    fn who_leaves_leaves_nothing() {
        let mut world = duel();
        world.command(1, Command { facing: 64, fire: true, ..Command::default() });
        world.step();
        assert!(shown(&world).present().any(|(_, entity)| entity.kind == Kind::Shot));
        world.leave(1);
        world.leave(0);
        assert!(shown(&world).present().all(|(_, entity)| entity.kind == Kind::Remedy));
    }

    #[test]
    fn numbers_of_players_there_are_not_do_nothing() {
        let mut world = World::new(0, 1);
        world.join(PLAYERS as u8);
        world.leave(u8::MAX);
        world.command(3, Command { fire: true, ..Command::default() });
        world.step();
        assert_eq!(shown(&world).present().count(), REMEDIES.len());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Join(u8),
        Leave(u8),
        Command(u8, Command),
        Step,
    }

    fn act() -> impl Strategy<Value = Act> {
        let command = any::<(i8, i8, u8, bool)>().prop_map(|(east, south, facing, fire)| Command {
            east,
            south,
            facing,
            fire,
        });
        prop_oneof![
            2 => (0_u8..66).prop_map(Act::Join),
            1 => (0_u8..66).prop_map(Act::Leave),
            9 => (0_u8..66, command).prop_map(|(player, command)| Act::Command(player, command)),
            9 => Just(Act::Step),
        ]
    }

    proptest! {
        #[test]
        fn whatever_players_do_they_stay_in_the_world(
            hz in 1_u32..=100, seed: u64, acts in prop::collection::vec(act(), 0..400),
        ) {
            let mut world = World::new(hz, seed);
            let mut twin = World::new(hz, seed);
            for act in acts {
                for world in [&mut world, &mut twin] {
                    match act {
                        Act::Join(player) => world.join(player),
                        Act::Leave(player) => world.leave(player),
                        Act::Command(player, command) => world.command(player, command),
                        Act::Step => world.step(),
                    }
                }
                for player in world.players.iter().flatten() {
                    prop_assert!(ground::is_free(player.place), "{player:?}");
                    prop_assert!(player.health <= 100);
                }
            }
            let state = shown(&world);
            prop_assert!(state.present().all(|(_, entity)| entity.x <= ARENA && entity.y <= ARENA));
            prop_assert_eq!(state, shown(&twin), "the same acts make the same world");
        }
    }
}
