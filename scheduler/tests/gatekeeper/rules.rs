//! Who is let in, and who leaves for whom.

use crate::world::{MIB, MS, PACING, World};
use denali_scheduler::gatekeeper::{Census, Claim, Decision, Limits, Pacing, Place, Totals};

#[test]
fn who_came_first_is_let_in_first_while_there_is_room() {
    let mut world = World::of(3);
    [5, 3, 9, 1].into_iter().for_each(|guest| world.want(guest));
    world.want(5);
    world.settle();
    assert_eq!(world.admitted(), [5, 3, 9]);
    assert_eq!(
        [1, 5, 7].map(|guest| world.gate.place(guest)),
        [Place::Waiting, Place::Coming, Place::Out]
    );
    world.pass(10);
    assert_eq!(world.gate.place(5), Place::In);
    let census = Census { waiting: 1, coming: 0, inside: 3, leaving: 0, charged: 3 * MIB };
    assert_eq!(world.gate.census(), census);
}

#[test]
fn the_longest_idle_leaves_for_whoever_waits() {
    let mut world = World::of(3);
    world.fill([1, 2, 3]);
    world.pass(200);
    [2, 1, 3].into_iter().for_each(|guest| {
        world.active(guest);
        world.pass(20);
    });
    world.pass(200);
    world.want(4);
    world.settle();
    assert_eq!((world.evicted(), world.admitted()), (vec![2], vec![]));
    assert_eq!(world.gate.place(2), Place::Leaving);
    world.pass(5);
    assert_eq!((world.evicted(), world.admitted()), (vec![2], vec![4]));
    assert_eq!(world.gate.totals(), Totals { admitted: 4, evicted: 1, refused: 0 });
}

#[test]
fn nobody_leaves_before_the_least_stay_is_over() {
    let mut world = World::of(2);
    world.fill([1, 2]);
    world.want(3);
    let start = world.now;
    while world.evicted().is_empty() {
        assert!(world.now - start < 200 * MS, "nobody leaves");
        world.pass(1);
    }
    assert_eq!(world.evicted(), [1]);
    // It ran from the third ms on; what had passed since is known to the ms.
    assert!(world.now - start > PACING.stay_ns - 20 * MS);
}

#[test]
fn active_guests_stay_until_patience_ends_and_then_the_one_that_stayed_longest_goes() {
    let mut world = World::of(2);
    world.fill([1, 2]);
    world.pass(300);
    world.want(3);
    for ms in 0..19 {
        [1, 2].into_iter().for_each(|guest| world.active(guest));
        world.pass(1);
        assert!(world.evicted().is_empty(), "after {ms} ms");
    }
    [1, 2].into_iter().for_each(|guest| world.active(guest));
    world.pass(2);
    assert_eq!(world.evicted(), [1]);
}

#[test]
fn who_is_wanted_more_often_is_worth_keeping_longer() {
    let mut world = World::of(2);
    // Guest 1 comes back again and again, not soon; the others once.
    for round in 0..4 {
        world.fill([1, 10 + round]);
        world.pass(4000);
        for guest in [1, 10 + round] {
            world.gate.left(guest, world.now);
            world.inside.remove(&guest);
        }
    }
    world.fill([1]);
    world.pass(30);
    world.fill([50]);
    world.pass(200);
    world.want(60);
    world.pass(1);
    assert_eq!(world.evicted(), [50], "idle for a shorter time, but wanted once");
}

#[test]
fn who_costs_more_to_bring_back_is_worth_keeping_longer() {
    let mut world = World::of(2);
    let claim = |stored| Claim { bytes: 16 * MIB, stored, ..Claim::default() };
    world.want_as(1, claim(16 * MIB));
    world.pass(10);
    world.want_as(2, claim(MIB));
    world.pass(300);
    world.decisions.clear();
    world.want(3);
    world.pass(1);
    assert_eq!(world.evicted(), [2]);
}

#[test]
fn who_is_back_soon_stays_twice_as_long_each_time() {
    let pacing = Pacing { soon_ns: 5000 * MS, ..PACING };
    let mut world = World::new(Limits { max_running: 1, ..Limits::default() }, pacing);
    let mut stays = Vec::new();
    for round in 0..14 {
        let (guest, came) = (1 + round % 2, world.now);
        world.want(guest);
        world.pass(1);
        while world.admitted() != [guest] {
            world.pass(1);
            assert!(world.now - came < 3000 * MS, "guest {guest} waits too long");
        }
        world.decisions.clear();
        stays.push((world.now - came) / MS);
    }
    // The first comes at once; each of the two then stays 100, 200, 400, … ms.
    let expected = [0, 100, 100, 200, 200, 400, 400, 800, 800, 1600, 1600];
    for (stay, least) in stays.iter().zip(expected) {
        assert!((least..least + 40).contains(stay), "{stays:?}");
    }
}

#[test]
fn who_is_wanted_while_it_leaves_waits_as_soon_as_it_has_left() {
    let mut world = World::of(1);
    world.fill([1]);
    world.pass(300);
    world.want(2);
    world.settle();
    world.want(1);
    assert_eq!(world.gate.place(1), Place::Leaving);
    world.pass(5);
    assert_eq!([1, 2].map(|guest| world.gate.place(guest)), [Place::Waiting, Place::Coming]);
    world.pass(1000);
    assert_eq!(world.admitted(), [2, 1]);
}

#[test]
fn who_could_not_leave_is_not_told_again_before_its_least_stay() {
    let mut world = World::of(1);
    world.fill([1]);
    world.pass(300);
    world.want(2);
    world.settle();
    assert_eq!(world.evicted(), [1]);
    world.inside.insert(1, crate::world::Stage::In);
    world.gate.stays(1, world.now);
    world.pass(99);
    assert_eq!(world.evicted(), [1]);
    world.pass(2);
    assert_eq!(world.evicted(), [1, 1]);
}

#[test]
fn who_is_forgotten_waits_no_more_and_who_cannot_be_parked_stays() {
    let mut world = World::of(1);
    world.want_as(1, Claim { bytes: MIB, fixed: true, ..Claim::default() });
    world.pass(10);
    [2, 3].into_iter().for_each(|guest| world.want(guest));
    world.gate.forget(2);
    world.pass(10_000);
    assert!(world.evicted().is_empty());
    world.inside.remove(&1);
    world.gate.left(1, world.now);
    world.pass(1);
    assert_eq!(world.admitted(), [1, 3]);
}

#[test]
fn guests_are_told_to_leave_at_a_bounded_rate() {
    let pacing = Pacing { evictions_per_s: 100, ..PACING };
    let mut world = World::new(Limits { max_running: 200, ..Limits::default() }, pacing);
    world.fill(0..200);
    world.pass(500);
    (1000..1200).for_each(|guest| world.want(guest));
    world.pass(1000);
    let evicted = world.evicted().len();
    assert!((100..=112).contains(&evicted), "{evicted}");
}

#[test]
fn room_is_made_in_advance_while_there_is_a_crowd_and_not_otherwise() {
    let pacing = Pacing { reserve: 8, ..PACING };
    let mut world = World::new(Limits { max_running: 100, ..Limits::default() }, pacing);
    world.fill(0..100);
    world.pass(5000);
    assert!(world.evicted().is_empty(), "nobody waits");
    world.want(100);
    world.pass(10);
    assert_eq!(world.evicted().len(), 8, "for the one, and for seven more");
    let waits = |world: &World| {
        let last = world.decisions.iter().rev().find_map(|decision| match *decision {
            Decision::Admit { waited_ns, .. } => Some(waited_ns),
            _ => None,
        });
        last.unwrap()
    };
    for guest in 101..104 {
        world.want(guest);
        world.settle();
        assert_eq!(waits(&world), 0, "guest {guest}");
    }
    assert_eq!(world.evicted().len(), 8, "half of it is left");
    world.want(104);
    world.pass(10);
    assert_eq!(world.evicted().len(), 13, "and then it is made whole");
}

#[test]
fn those_that_are_found_too_many_leave() {
    let mut world = World::of(10);
    for guest in 0..15 {
        let claim = Claim { bytes: MIB, ..Claim::default() };
        world.claims.insert(guest, claim);
        world.inside.insert(guest, crate::world::Stage::In);
        world.gate.found(guest, claim, world.now);
    }
    world.pass(99);
    assert!(world.evicted().is_empty());
    world.pass(10);
    assert_eq!(world.evicted().len(), 5);
    assert_eq!(world.gate.next_ns(), None);
}

#[test]
fn it_says_when_it_is_to_be_asked_again() {
    let mut world = World::of(1);
    assert_eq!(world.gate.next_ns(), None);
    world.fill([1]);
    assert_eq!(world.gate.next_ns(), None);
    world.want(2);
    world.settle();
    let next = world.gate.next_ns().unwrap();
    assert!(next > world.now && next <= world.now + PACING.stay_ns);
    world.now = next;
    world.settle();
    assert_eq!(world.evicted(), [1]);
}
