//! Tests of stores and disks that fail: the owner hears of it once, and nobody waits for ever.

use super::support::*;
use crate::{Failure, Limit, Originals, Pager, StartError};
use denali_swap::{PAGE, PageNumber};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// Touches a page of a guest whose pager fails, and gives what the pager's owner hears. Who waits for the
/// page goes on when the userfaultfd is closed.
fn fails(change: impl FnOnce(&mut crate::Setup<MapStore>), touched: u32) -> Option<Failure> {
    let uffd = uffd()?;
    let guest = Guest::new(128);
    let store = MapStore::of((0..128).filter(|n| n % 2 == 0).map(|n| (n, 1 + u64::from(n))));
    let (mut setup, failure) = setup(uffd, &guest, store);
    change(&mut setup);
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.read(touched, 0));
        let told = failure.recv().unwrap();
        assert!(failure.recv().is_err(), "once");
        assert!(!pager.is_done());
        let stopped = pager.stop();
        drop(stopped.uffd);
        waits.join().unwrap();
        Some(told)
    })
}

#[test]
fn a_page_that_does_not_open_is_named() {
    let broken = |setup: &mut crate::Setup<MapStore>| {
        setup.store.broken = BTreeSet::from([page(6)]);
    };
    let Some(failure) = fails(broken, 6) else { return };
    assert_eq!(failure.page, Some(page(6)));
    assert_eq!(
        failure.to_string(),
        "the guest's page at 0x106000: it cannot be read: it does not open"
    );
}

#[test]
fn a_page_that_does_not_open_matters_only_to_who_touches_it() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(128);
    let mut store = MapStore::of((0..128).map(|n| (n, 1 + u64::from(n))));
    store.broken = BTreeSet::from([page(6)]);
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.policy.read_ahead = 8;
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(4, 5) && guest.is(5, 6) && guest.is(7, 8));
    assert!(failure.try_recv().is_err());
    assert_eq!(pager.stop().counters.faults, 3);
}

#[test]
fn completing_fails_for_the_page_that_does_not_open() {
    let broken = |setup: &mut crate::Setup<MapStore>| {
        setup.store.broken = BTreeSet::from([page(100)]);
        setup.policy.complete_after = Some(Duration::ZERO);
    };
    let Some(failure) = fails(broken, 100) else { return };
    assert_eq!(failure.page, Some(page(100)));
}

#[test]
fn a_region_that_somebody_has_changed_fails_the_guest() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let files = Files::new(64);
    let mut store = files.store();
    (0..64).for_each(|n| store.put(page(n), &filled(1)).unwrap());
    store.flush().unwrap();
    files.damage();
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.policy.read_ahead = 8;
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.read(9, 0));
        let told = failure.recv().unwrap();
        assert_eq!(told.page, Some(page(9)));
        assert!(told.why.contains("damaged"), "{told}");
        drop(pager.stop());
        assert_eq!(waits.join().unwrap(), 0, "nothing of what was changed was let in");
    });
}

/// Originals that cannot be read.
struct Unreadable;

impl Originals for Unreadable {
    fn read(&mut self, _: PageNumber, _: &mut [u8; PAGE]) -> io::Result<bool> {
        Err(io::Error::other("the snapshot is gone"))
    }

    fn next(&self, from: PageNumber) -> Option<PageNumber> {
        Some(from)
    }
}

#[test]
fn an_original_that_cannot_be_read_fails() {
    let Some(failure) = fails(|setup| setup.originals = Box::new(Unreadable), 3) else { return };
    assert_eq!(
        failure.to_string(),
        "the guest's page at 0x103000: its original cannot be read: the snapshot is gone"
    );
}

/// Originals that are broken altogether.
struct Panicking;

impl Originals for Panicking {
    fn read(&mut self, _: PageNumber, _: &mut [u8; PAGE]) -> io::Result<bool> {
        panic!("as the test wants it");
    }

    fn next(&self, from: PageNumber) -> Option<PageNumber> {
        Some(from)
    }
}

#[test]
fn a_panic_is_told_too() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(16);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.originals = Box::new(Panicking);
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| guest.read(3, 0));
        assert_eq!(failure.recv().unwrap().page, None);
        drop(pager);
        assert_eq!(waits.join().unwrap(), 0);
    });
}

/// Writes all of a guest that may have little in memory, with a store that fails.
fn fails_to_write(change: impl FnOnce(&mut MapStore)) -> Option<Failure> {
    let uffd = moving_uffd()?;
    let guest = Guest::new(256);
    let mut store = MapStore::default();
    change(&mut store);
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.limit = Some(limit(64));
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| (0..256).for_each(|n| guest.set(n, 1)));
        let told = failure.recv().unwrap();
        assert!(failure.recv().is_err(), "once");
        drop(pager.stop().uffd);
        waits.join().unwrap();
        Some(told)
    })
}

/// So many pages, and no clock to speak of.
pub(super) fn limit(pages: usize) -> Limit {
    Limit { pages, clock: Box::new(|| 0), window_ns: 1_000_000, pinned: Vec::new() }
}

#[test]
fn a_disk_that_fails_to_write_fails_the_guest() {
    let Some(failure) = fails_to_write(|store| store.writable = Some(10)) else { return };
    assert!(failure.why.ends_with("it cannot be written: the disk is gone"));
}

#[test]
fn a_region_that_is_too_small_is_named_with_what_to_do() {
    let Some(failure) = fails_to_write(|store| store.capacity = Some(10)) else { return };
    assert!(failure.why.contains("set \"swap_limit\""), "{failure}");
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(256);
    let (mut first, _failure) = setup(uffd, &guest, MapStore::default());
    first.limit = Some(Limit { pinned: vec![page(1)], ..limit(64) });
    let Err(error) = Pager::start(first) else { panic!("63 pages are too few") };
    assert!(matches!(error, StartError::Limit(64)));
    assert!(error.to_string().contains("more than 64 pages"));
}
