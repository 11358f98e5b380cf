//! What holds whatever happens.

use crate::world::{MIB, MS, PACING, Stage, World};
use denali_scheduler::gatekeeper::{Claim, Limits, Pacing, Place, Quota};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Want(u32),
    Active(u32),
    /// It leaves by itself, or what brings it fails.
    Leaves(u32),
    Stays(u32),
    Forget(u32),
    Pass(u64),
}

const GUESTS: u32 = 24;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guest = 0..GUESTS;
    let step = prop_oneof![
        8 => guest.clone().prop_map(Step::Want),
        4 => guest.clone().prop_map(Step::Active),
        1 => guest.clone().prop_map(Step::Leaves),
        1 => guest.clone().prop_map(Step::Stays),
        1 => guest.prop_map(Step::Forget),
        6 => (1..120_u64).prop_map(Step::Pass),
    ];
    vec(step, 1..150)
}

/// What a guest needs: always the same.
fn claim(guest: u32) -> Claim {
    let size = u64::from(guest % 5 + 1);
    Claim { bytes: size * MIB, stored: u64::from(guest % 3) * MIB, tenant: guest % 3, fixed: false }
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Want(guest) => world.want_as(guest, claim(guest)),
        Step::Active(guest) => world.active(guest),
        Step::Leaves(guest) => {
            if world.inside.remove(&guest).is_some() {
                world.gate.left(guest, world.now);
            }
        }
        Step::Stays(guest) => {
            if let Some(stage @ Stage::Leaving(_)) = world.inside.get_mut(&guest) {
                *stage = Stage::In;
                world.gate.stays(guest, world.now);
            }
        }
        Step::Forget(guest) => world.gate.forget(guest),
        Step::Pass(ms) => world.pass(ms),
    }
}

/// Guests and bytes of one tenant, or of all.
fn used(world: &World, tenant: Option<u32>) -> (u64, u64) {
    let of = |guest: &&u32| tenant.is_none_or(|tenant| claim(**guest).tenant == tenant);
    let guests = world.inside.keys().filter(of);
    guests.fold((0, 0), |(count, bytes), &guest| (count + 1, bytes + claim(guest).bytes))
}

proptest! {
    /// Limits, quotas and the host's memory are kept, what the gatekeeper believes is so, and decisions come to an end.
    #[test]
    fn limits_are_kept(steps in steps(), max_running in 1..10_u32, budget in 6..30_u64, free in 6..30_u64, quota in 1..4_u32) {
        let limits = Limits { max_running, budget: budget * MIB, minimum_free: 10 * MIB };
        let mut world = World::new(limits, Pacing { reserve: 2, ..PACING });
        world.total = (10 + free) * MIB;
        world.gate.set_quota(1, Quota { running: quota, memory: 7 * MIB });
        for step in steps {
            take(&mut world, step);
            world.settle();
            let (guests, bytes) = used(&world, None);
            prop_assert!(guests <= u64::from(max_running));
            prop_assert!(bytes <= budget * MIB && world.free() >= 10 * MIB);
            let (guests, bytes) = used(&world, Some(1));
            prop_assert!(guests <= u64::from(quota) && bytes <= 7 * MIB);
            let census = world.gate.census();
            prop_assert_eq!(census.charged, world.used());
            prop_assert_eq!(census.coming + census.inside + census.leaving, world.inside.len());
            for guest in 0..GUESTS {
                let inside = matches!(world.gate.place(guest), Place::Coming | Place::In | Place::Leaving);
                prop_assert_eq!(inside, world.inside.contains_key(&guest));
            }
        }
    }

    /// Within a tenant guests are let in in the order in which they came to wait.
    #[test]
    fn tenants_are_served_in_order(steps in steps(), max_running in 1..6_u32) {
        let mut world = World::new(Limits { max_running, ..Limits::default() }, PACING);
        let mut queues: HashMap<u32, VecDeque<u32>> = HashMap::new();
        let mut seen = 0;
        for step in steps {
            match step {
                Step::Want(guest) if world.gate.place(guest) == Place::Out => {
                    take(&mut world, step);
                    queues.entry(guest % 3).or_default().push_back(guest);
                }
                Step::Want(_) => continue,
                Step::Forget(guest) => {
                    take(&mut world, step);
                    queues.entry(guest % 3).or_default().retain(|&it| it != guest);
                }
                other => take(&mut world, other),
            }
            world.settle();
            let admitted = world.admitted();
            for guest in &admitted[seen..] {
                prop_assert_eq!(queues.entry(guest % 3).or_default().pop_front(), Some(*guest));
            }
            seen = admitted.len();
        }
        prop_assert_eq!(queues.values().map(VecDeque::len).sum::<usize>(), world.gate.census().waiting);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However active everybody is, and however many wait, each is let in within the time that all before it take, if each of
    /// them stays for as long as guests ever stay at least.
    #[test]
    fn nobody_starves(guests in 2..24_u32, max_running in 3..8_u32, tenants in 1..4_u32) {
        let pacing = Pacing { stay_max_ns: 400 * MS, ..PACING };
        let mut world = World::new(Limits { max_running, ..Limits::default() }, pacing);
        let rounds = u64::from(guests.div_ceil(max_running)) + 1;
        let bound = rounds * (pacing.stay_max_ns + pacing.patience_ns + 20 * MS);
        let mut since: HashMap<u32, u64> = HashMap::new();
        for _ in 0..2 * bound / MS {
            for guest in 0..guests {
                world.active(guest);
                if world.gate.place(guest) == Place::Out {
                    world.want_as(guest, Claim { bytes: MIB, tenant: guest % tenants, ..Claim::default() });
                    since.insert(guest, world.now);
                }
            }
            world.pass(1);
            for guest in 0..guests {
                let waits = world.gate.place(guest) == Place::Waiting;
                prop_assert!(!waits || world.now - since[&guest] <= bound, "guest {guest} waits");
            }
        }
    }

    /// Those that fit are never told to leave, and of more than fit, none leaves often: if all are always wanted, they take
    /// turns that are as long as turns get.
    #[test]
    fn it_does_not_thrash(guests in 2..30_u32, max_running in 2..12_u32, reserve in 0..4_u32) {
        let mut world = World::new(Limits { max_running, ..Limits::default() }, Pacing { reserve, ..PACING });
        let turn = |world: &mut World, ms: u64| {
            for _ in 0..ms / 10 {
                for guest in 0..guests {
                    world.active(guest);
                    if world.gate.place(guest) == Place::Out { world.want(guest) }
                }
                world.pass(10);
            }
        };
        turn(&mut world, 20_000);
        let warm = world.evicted().len() as u64;
        turn(&mut world, 20_000);
        let (evicted, admitted) = (world.evicted().len() as u64, world.admitted().len() as u64);
        if guests <= max_running {
            prop_assert_eq!(evicted, 0);
        } else {
            prop_assert!(evicted <= admitted, "each has left for somebody");
            // A turn is as long as turns get, or so long that nobody is back soon.
            let others = u64::from((guests - max_running).div_ceil(max_running));
            let turn_ns = (PACING.soon_ns / others / 2).clamp(PACING.stay_ns, PACING.stay_max_ns);
            let turns = 20_000 * MS / turn_ns + 2;
            prop_assert!(evicted - warm <= 2 * turns * u64::from(max_running), "{}", evicted - warm);
        }
    }
}
