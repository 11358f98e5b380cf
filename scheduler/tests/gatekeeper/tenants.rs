//! Tenants: turns and quotas.

use crate::world::{MIB, World};
use denali_scheduler::gatekeeper::{Claim, Decision, Quota, Reason, Refusal};

fn of(tenant: u32) -> Claim {
    Claim { bytes: MIB, tenant, ..Claim::default() }
}

#[test]
fn tenants_take_turns() {
    let mut world = World::of(6);
    (0..100).for_each(|guest| world.want_as(guest, of(1)));
    (100..102).for_each(|guest| world.want_as(guest, of(2)));
    world.want_as(200, of(3));
    world.settle();
    assert_eq!(world.admitted(), [0, 100, 200, 1, 101, 2]);
}

#[test]
fn a_tenant_at_its_quota_lets_others_pass_and_its_own_leave() {
    let mut world = World::of(10);
    world.gate.set_quota(1, Quota { running: 2, memory: 0 });
    (0..4).for_each(|guest| world.want_as(guest, of(1)));
    (10..13).for_each(|guest| world.want_as(guest, of(2)));
    world.pass(10);
    assert_eq!(world.admitted(), [0, 10, 1, 11, 12]);
    world.pass(150);
    assert_eq!(world.evicted(), [0, 1], "its own, although others are idle, too");
    assert_eq!(world.admitted(), [0, 10, 1, 11, 12, 2, 3]);
    let why = Reason::TenantRunning { tenant: 1, limit: 2 };
    assert!(
        world
            .decisions
            .iter()
            .any(|it| matches!(it, Decision::Evict { why: found, .. } if *found == why))
    );
}

#[test]
fn quotas_are_of_memory_too() {
    let mut world = World::of(10);
    world.gate.set_quota(1, Quota { running: 0, memory: 5 * MIB / 2 });
    world.want_as(0, Claim { bytes: 3 * MIB, ..of(1) });
    (1..4).for_each(|guest| world.want_as(guest, of(1)));
    world.pass(10);
    let why = Refusal::Quota { bytes: 3 * MIB, limit: 5 * MIB / 2 };
    assert_eq!(world.decisions[0], Decision::Refuse { guest: 0, why });
    assert_eq!(world.admitted(), [1, 2]);
    world.gate.set_quota(1, Quota::default());
    world.settle();
    assert_eq!(world.admitted(), [1, 2, 3]);
}

#[test]
fn one_tenants_flood_does_not_keep_another_out() {
    let mut world = World::of(10);
    (0..1000).for_each(|guest| world.want_as(guest, of(1)));
    world.pass(500);
    world.decisions.clear();
    world.want_as(5000, of(2));
    let start = world.now;
    while !world.admitted().contains(&5000) {
        world.pass(1);
        assert!(world.now - start < 200_000_000);
    }
    assert!(world.admitted().len() <= 20, "{:?}", world.admitted());
}
