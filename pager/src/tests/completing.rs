//! Tests of pages that come back although nobody touches them.

use super::support::*;
use crate::{Pager, Policy, Prefetched};
use std::time::Duration;

#[test]
fn everything_that_is_not_zeroes_comes_and_memory_is_ordinary_again() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(1000);
    let store = MapStore::of((0..1000).filter(|n| n % 4 == 0).map(|n| (n, 1 + u64::from(n))));
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.originals = MapOriginals::of((400..600).map(|n| (n, 7)));
    setup.missing = vec![page(0)..page(500), page(510)..page(1000)];
    setup.policy.complete_after = Some(Duration::ZERO);
    let bytes = [filled(41), filled(45)].into_iter().flat_map(|page| *page).collect();
    setup.prefetched = Prefetched::new(vec![page(40), page(44)], bytes).unwrap();
    let pager = Pager::start(setup).unwrap();
    wait_until_done(&pager);
    let expected = |n: u32| match n {
        500..510 => 0,
        n if n % 4 == 0 => 1 + u64::from(n),
        400..600 => 7,
        _ => 0,
    };
    let filled: Vec<u32> = (0..1000).filter(|n| expected(*n) != 0).collect();
    assert_eq!(guest.resident(), filled);
    assert!((0..1000).all(|n| guest.is(n, expected(n))));
    let stopped = pager.stop();
    assert_eq!(stopped.faulted, []);
    assert_eq!(stopped.counters.completed, filled.len() as u64);
    // Pages 500 to 510 are not the pager's.
    assert_eq!(
        stopped.store.pages.keys().copied().collect::<Vec<_>>(),
        [page(500), page(504), page(508)]
    );
    assert_eq!(
        stopped.store.reads.iter().sum::<usize>(),
        245,
        "what was prefetched is not read again"
    );
    assert_eq!(stopped.store.reads.len(), 4, "in large pieces");
    assert!(failure.try_recv().is_err());
}

#[test]
fn what_the_guest_has_in_memory_stays_as_it_is() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(100);
    guest.set(5, 55);
    guest.set(50, 66);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::of((0..10).map(|n| (n, 1))));
    setup.originals = MapOriginals::of((40..60).map(|n| (n, 2)));
    setup.policy.complete_after = Some(Duration::ZERO);
    let pager = Pager::start(setup).unwrap();
    wait_until_done(&pager);
    assert!(guest.is(5, 55) && guest.is(50, 66) && guest.is(6, 1) && guest.is(51, 2));
    assert!(pager.stop().store.pages.is_empty());
}

#[test]
fn faults_are_served_while_the_rest_comes() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(4096);
    let store = MapStore {
        slow: Duration::from_millis(1),
        ..MapStore::of((0..4096).map(|n| (n, 1 + u64::from(n))))
    };
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.policy.complete_after = Some(Duration::ZERO);
    let pager = Pager::start(setup).unwrap();
    let mut random = Scattered(9);
    while !pager.is_done() {
        let index = random.below(4096);
        assert!(guest.is(index, 1 + u64::from(index)));
        guest.set(index, 1 + u64::from(index));
    }
    assert!((0..4096).all(|n| guest.is(n, 1 + u64::from(n))));
    let counters = pager.stop().counters;
    assert!(counters.faults > 0, "{counters:?}");
    assert_eq!(counters.faults + counters.read_ahead + counters.completed, 4096, "each once");
    assert!(failure.try_recv().is_err());
}

#[test]
fn a_stop_comes_between_and_loses_nothing() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(4096);
    let store = MapStore {
        slow: Duration::from_millis(2),
        ..MapStore::of((0..4096).map(|n| (n, 1 + u64::from(n))))
    };
    let (mut setup, _failure) = setup(uffd, &guest, store);
    setup.policy.complete_after = Some(Duration::ZERO);
    let pager = Pager::start(setup).unwrap();
    while pager.counters().completed == 0 {
        std::thread::yield_now();
    }
    let stopped = pager.stop();
    let resident = guest.resident();
    assert_eq!(resident.len() + stopped.store.pages.len(), 4096, "each is somewhere");
    assert!(resident.iter().all(|n| guest.is(*n, 1 + u64::from(*n))));
    assert!(resident.iter().all(|n| !stopped.store.pages.contains_key(&page(*n))));
}

/// Names of this process's threads, and the signals that each has blocked.
fn threads() -> Vec<(String, String)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let statuses = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")));
    let field = |status: &str, name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    statuses
        .filter_map(Result::ok)
        .map(|status| (field(&status, "Name:"), field(&status, "SigBlk:")))
        .collect()
}

/// A thread that was joined is still listed for a moment.
fn wait_for_threads(expected: &[(String, String)]) {
    let names = |threads: &[(String, String)]| -> Vec<_> {
        threads.iter().map(|(name, _)| name.clone()).collect()
    };
    while names(&threads()) != names(expected) {
        std::thread::yield_now();
    }
}

#[test]
fn its_thread_has_a_name_takes_no_signals_and_is_gone_when_it_is_over() {
    let this = "its_thread_has_a_name_takes_no_signals_and_is_gone_when_it_is_over";
    let Some(uffd) = uffd() else { return };
    if !alone(&format!("tests::completing::{this}")) {
        return;
    }
    let before = threads();
    let guest = Guest::new(64);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::of([(1, 1)]));
    setup.policy.complete_after = Some(Duration::ZERO);
    setup.originals = MapOriginals::of([(3, 3)]);
    let pager = Pager::start(setup).unwrap();
    let pagers = threads().into_iter().filter(|(name, _)| name == "pager");
    // The first 31, but for the two that cannot be blocked. Or it is over already.
    assert!(pagers.into_iter().all(|(_, blocked)| blocked.ends_with("7ffbfeff")));
    wait_until_done(&pager);
    drop(pager);
    wait_for_threads(&before);
    let uffd = super::support::uffd().unwrap();
    let (setup, _failure) = self::setup(uffd, &guest, MapStore::default());
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(2, 0));
    assert_eq!(threads().iter().filter(|(name, _)| name == "pager").count(), 1);
    drop(pager);
    wait_for_threads(&before);
    assert!(guest.is(2, 0), "and its memory can be touched");
}

#[test]
fn a_guest_comes_back_from_a_real_region() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(2048);
    let files = Files::new(2048);
    let mut store = files.store();
    for n in (0..2048).rev() {
        store.put(page(n), &filled(1 + u64::from(n))).unwrap();
    }
    store.flush().unwrap();
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.policy = Policy { complete_after: Some(Duration::from_millis(1)), read_ahead: 8 };
    let pager = Pager::start(setup).unwrap();
    let mut random = Scattered(3);
    for _ in 0..100 {
        let n = random.below(2048);
        assert!(guest.is(n, 1 + u64::from(n)), "page {n}");
    }
    wait_until_done(&pager);
    assert_eq!(guest.resident().len(), 2048);
    assert!((0..2048).all(|n| guest.is(n, 1 + u64::from(n))));
    let stopped = pager.stop();
    assert!(stopped.store.is_empty() && failure.try_recv().is_err());
    let counters = stopped.counters;
    assert_eq!(counters.faults + counters.read_ahead + counters.completed, 2048);
}
