//! Tests of guests that may not have all their pages.

use super::failing::limit;
use super::support::*;
use crate::Pager;
use std::time::Duration;

/// Waits until the guest is to be held.
fn wait_until_full<S>(pager: &Pager<S>) {
    while !pager.is_full() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_guest_has_as_many_pages_as_it_may_and_waits_for_more() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(32);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.growth = Some(8);
    let pager = Pager::start(setup).unwrap();
    pager.enter(true);
    (0..8).for_each(|index| guest.set(index, 1 + u64::from(index)));
    assert!(!pager.is_full());
    // Whoever executes the guest waits for this one, until it turns out that nothing brings it out.
    guest.set(8, 9);
    assert!(pager.is_full());
    pager.enter(false);
    pager.lift();
    assert!(!pager.is_full());
    pager.enter(true);
    (9..32).for_each(|index| guest.set(index, 1 + u64::from(index)));
    assert!(!pager.is_full());
    assert!((0..32).all(|index| guest.is(index, 1 + u64::from(index))));
    assert!(failure.try_recv().is_err());
    assert_eq!(pager.stop().counters.faults, 32, "one by one");
}

#[test]
fn who_works_for_the_guest_never_waits_but_the_guest_is_full() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(32);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::default());
    setup.growth = Some(8);
    let pager = Pager::start(setup).unwrap();
    // Outside of the guest.
    (0..10).for_each(|index| guest.set(index, 3));
    wait_until_full(&pager);
    // Another thread, while the guest runs.
    pager.enter(true);
    std::thread::scope(|scope| {
        scope.spawn(|| (10..20).for_each(|index| guest.set(index, 3)));
    });
    assert!(pager.is_full() && (0..20).all(|index| guest.is(index, 3)));
}

#[test]
fn pages_that_are_out_are_the_guests_already() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::of((0..16).map(|n| (n, 7))));
    setup.growth = Some(18);
    setup.policy.complete_after = Some(Duration::ZERO);
    setup.policy.read_ahead = 4;
    let pager = Pager::start(setup).unwrap();
    pager.enter(true);
    assert!((0..16).all(|index| guest.is(index, 7)));
    guest.set(40, 1);
    guest.set(20, 1);
    assert!(!pager.is_full() && !pager.is_done(), "pages that come are counted as long as it runs");
    guest.set(21, 1);
    assert!(pager.is_full());
    drop(pager);
    assert_eq!(guest.resident(), (0..16).chain([20, 21, 40]).collect::<Vec<_>>());
}

#[test]
fn a_guest_that_has_too_much_is_not_lost_when_pages_are_to_leave() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(256);
    let store = MapStore { capacity: Some(100), ..MapStore::default() };
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.growth = Some(100);
    setup.limit = Some(limit(70));
    let pager = Pager::start(setup).unwrap();
    // Devices have it grow beyond what can leave: 250 pages, of which 100 have a place in the store.
    (0..250).for_each(|index| guest.set(index, 1 + u64::from(index)));
    wait_until_full(&pager);
    assert!((0..250).all(|index| guest.is(index, 1 + u64::from(index))));
    assert!(failure.try_recv().is_err());
    let stopped = pager.stop();
    assert!(stopped.store.pages.len() <= 100 && stopped.counters.over_limit > 0);
}
