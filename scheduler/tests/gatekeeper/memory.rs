//! Memory: the host's, and the budget of guests.

use crate::world::{MIB, MS, PACING, World};
use denali_scheduler::gatekeeper::{Claim, Decision, Limits, Pacing, Reason, Refusal};

fn of(bytes: u64) -> Claim {
    Claim { bytes, ..Claim::default() }
}

#[test]
fn guests_are_let_in_while_the_least_stays_free() {
    let mut world = World::new(Limits { minimum_free: 100 * MIB, ..Limits::default() }, PACING);
    world.total = 150 * MIB;
    (0..100).for_each(|guest| world.want(guest));
    world.settle();
    assert_eq!(world.admitted().len(), 50, "none of them uses its memory yet");
    world.pass(10);
    assert_eq!((world.admitted().len(), world.free()), (50, 100 * MIB));
    world.pass(500);
    assert!(world.evicted().len() > 20, "and then they take turns");
    assert!(world.free() >= 100 * MIB);
}

#[test]
fn guests_are_counted_against_the_budget() {
    let mut world = World::new(Limits { budget: 10 * MIB, ..Limits::default() }, PACING);
    world.want_as(1, of(6 * MIB));
    world.want_as(2, of(5 * MIB));
    world.want_as(3, of(MIB));
    world.settle();
    assert_eq!(world.admitted(), [1], "a small one does not pass a large one");
    world.pass(300);
    assert_eq!((world.admitted(), world.evicted()), (vec![1, 2, 3], vec![1]));
    world.gate.charge(3, 9 * MIB);
    world.claims.insert(3, of(9 * MIB));
    assert_eq!(world.gate.census().charged, 14 * MIB);
    world.pass(300);
    assert_eq!(world.gate.census().charged, 5 * MIB, "what is too much leaves");
}

#[test]
fn memory_that_others_take_is_made_up_for_with_some_slack() {
    let limits = Limits { minimum_free: 80 * MIB, ..Limits::default() };
    let mut world = World::new(limits, PACING);
    world.total = 200 * MIB;
    world.fill(0..100);
    world.pass(300);
    world.others = 25 * MIB;
    world.pass(50);
    assert_eq!(world.free(), 90 * MIB, "an eighth more than the least");
    assert!(matches!(
        world.decisions[0],
        Decision::Evict { why: Reason::Memory { free: 0x4b0_0000, .. }, made_for: None, .. }
    ));
    world.others += 9 * MIB;
    world.decisions.clear();
    world.pass(50);
    assert!(world.decisions.is_empty(), "81 MiB are enough");
}

#[test]
fn in_need_nothing_else_counts() {
    let limits = Limits { minimum_free: 80 * MIB, ..Limits::default() };
    let mut world =
        World::new(limits, Pacing { stay_ns: 1_000_000 * MS, evictions_per_s: 1, ..PACING });
    world.total = 200 * MIB;
    world.fill(0..100);
    world.others = 50 * MIB;
    world.pass(100);
    assert!(world.evicted().is_empty(), "50 MiB are free, and least stays are not over");
    world.others = 70 * MIB;
    world.pass(100);
    assert!(world.free() >= 40 * MIB && world.evicted().len() < 15, "{}", world.evicted().len());
}

#[test]
fn what_can_never_be_is_refused() {
    let limits = Limits { budget: 10 * MIB, minimum_free: 5 * MIB, ..Limits::default() };
    let mut world = World::new(limits, PACING);
    world.want_as(1, of(11 * MIB));
    world.want_as(2, of(10 * MIB));
    world.total = 14 * MIB;
    world.want(3);
    world.settle();
    let refused = |guest, why| Decision::Refuse { guest, why };
    let budget = Refusal::Budget { bytes: 11 * MIB, limit: 10 * MIB };
    let host = Refusal::Host { bytes: 10 * MIB, limit: 9 * MIB };
    assert_eq!(world.decisions[..2], [refused(1, budget), refused(2, host)]);
    assert_eq!((world.admitted(), world.gate.totals().refused), (vec![3], 2));
}
