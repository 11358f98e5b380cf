//! Tests of pages that come back because somebody touches them.

use super::support::*;
use crate::{Pager, Prefetched, StartError};
use denali_swap::PAGE;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

#[test]
fn pages_come_from_the_store_from_the_image_or_are_zeroes() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let store = MapStore::of([(3, 33), (40, 44)]);
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.originals = MapOriginals::of([(40, 1), (41, 2)]);
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(41, 2), "of the image");
    assert!(guest.is(40, 44), "the guest had changed it");
    assert!(guest.is(3, 33));
    assert!(guest.is(0, 0));
    guest.write(0, 1, 5);
    assert_eq!(guest.read(0, 1), 5);
    let stopped = pager.stop();
    assert_eq!(stopped.faulted, [page(41), page(40), page(3), page(0)]);
    assert_eq!((stopped.counters.faults, stopped.counters.from_store), (4, 2));
    assert!(stopped.store.pages.is_empty(), "what is in memory is not in the store");
    assert_eq!(guest.resident(), [0, 3, 40, 41]);
    assert!(failure.try_recv().is_err());
}

#[test]
fn what_a_system_call_touches_comes_too() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let store = MapStore::of((0..64).map(|index| (index, 100 + u64::from(index))));
    let (setup, _failure) = setup(uffd, &guest, store);
    let pager = Pager::start(setup).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    // SAFETY: both ranges lie in the guest's memory.
    let written = unsafe { libc::write(file.as_raw_fd(), guest.word(8, 0).cast(), 4 * PAGE) };
    assert_eq!(written, 4 * PAGE as isize, "the kernel has read missing memory");
    file.write_all(&filled(7)[..]).unwrap();
    let mut file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let mut bytes = vec![0; 4 * PAGE];
    file.read_exact(&mut bytes).unwrap();
    assert!(bytes.chunks_exact(PAGE).zip(108..).all(|(page, value)| page == &filled(value)[..]));
    // SAFETY: as above.
    let read = unsafe { libc::read(file.as_raw_fd(), guest.word(20, 1).cast(), PAGE) };
    assert_eq!(read, PAGE as isize, "the kernel has written missing memory");
    assert_eq!((guest.read(20, 0), guest.read(20, 1), guest.read(21, 0)), (120, 7, 7));
    assert_eq!(guest.read(21, 1), 121, "behind what was written");
    assert!(pager.stop().faulted.contains(&page(21)));
}

#[test]
fn neighbours_in_the_store_come_along() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(200);
    let store = MapStore::of((0..200).map(|index| (index, 7 + u64::from(index))));
    let (mut setup, _failure) = setup(uffd, &guest, store);
    setup.policy.read_ahead = 8;
    // Only a part is the pager's concern.
    setup.missing = vec![page(10)..page(20), page(100)..page(200)];
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(12, 19));
    assert!(guest.is(100, 107));
    assert!(guest.is(150, 157));
    assert!(
        (12..20).chain(100..109).chain(150..159).all(|index| guest.is(index, 7 + u64::from(index)))
    );
    let stopped = pager.stop();
    assert_eq!(stopped.faulted, [page(12), page(100), page(150)]);
    assert_eq!(stopped.store.reads, [8, 9, 9]);
    assert_eq!((stopped.counters.faults, stopped.counters.read_ahead), (3, 7 + 8 + 8));
}

/// Whoever goes through much memory finds the next pages there: but for the first, by which is seen how far he is.
#[test]
fn the_next_pages_come_while_somebody_is_at_the_last() {
    let Some(uffd) = uffd() else { return };
    const COUNT: u32 = 2000;
    let guest = Guest::new(COUNT);
    let value = |index| 7 + u64::from(index);
    // Some were never written.
    let store = MapStore::of((0..COUNT).filter(|index| index % 50 != 3).map(|i| (i, value(i))));
    let (setup, _failure) = setup(uffd, &guest, store);
    let pager = Pager::start(setup).unwrap();
    let is_right = |index| guest.is(index, if index % 50 == 3 { 0 } else { value(index) });
    // Windows double: asking for 264 brings the first of 256 pages.
    assert!((0..=264).all(is_right));
    let ahead = 520 + 1..520 + 256;
    let come = || ahead.clone().all(|index| guest.resident().binary_search(&index).is_ok());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !come() {
        assert!(std::time::Instant::now() < until, "they come though nobody asks");
    }
    assert!(guest.resident().binary_search(&520).is_err(), "by this one is seen who comes");
    assert!((265..COUNT).all(is_right));
    let stopped = pager.stop();
    // 0, 1, 3, 6, …, 264, then one for each window.
    assert!(stopped.faulted.len() <= 10 + 7, "{:?}", stopped.faulted);
    assert!(stopped.store.pages.is_empty());
}

#[test]
fn ascending_faults_are_few() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(1024);
    // Some in the store, some of the image, the rest zeroes.
    let store = MapStore::of((0..1024).filter(|n| n % 3 == 0).map(|n| (n, 1 + u64::from(n))));
    let (mut setup, _failure) = setup(uffd, &guest, store);
    setup.originals =
        MapOriginals::of((0..512).filter(|n| n % 3 == 1).map(|n| (n, 1 + u64::from(n))));
    let pager = Pager::start(setup).unwrap();
    for index in 0..1024 {
        let there = index % 3 == 0 || index % 3 == 1 && index < 512;
        assert!(guest.is(index, if there { 1 + u64::from(index) } else { 0 }), "page {index}");
    }
    let stopped = pager.stop();
    assert!(stopped.counters.faults < 40, "{:?}", stopped.counters);
    assert_eq!(stopped.counters.faults + stopped.counters.read_ahead, 1024);
}

#[test]
fn many_threads_see_the_same_memory() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(2048);
    let store = MapStore::of((0..2048).filter(|n| n % 2 == 0).map(|n| (n, 1 + u64::from(n))));
    let (mut setup, failure) = setup(uffd, &guest, store);
    setup.policy.read_ahead = 3;
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let guest = &guest;
            scope.spawn(move || {
                let mut random = Scattered(thread);
                for _ in 0..3000 {
                    let index = random.below(2048);
                    let expected = if index.is_multiple_of(2) { 1 + u64::from(index) } else { 0 };
                    assert_eq!(guest.read(index, random.below(512) as usize), expected);
                }
            });
        }
    });
    let stopped = pager.stop();
    let mut faulted = stopped.faulted.clone();
    faulted.sort_unstable();
    faulted.dedup();
    assert_eq!(faulted.len(), stopped.faulted.len(), "each page once");
    assert!(failure.try_recv().is_err());
}

#[test]
fn prefetched_pages_come_when_they_are_touched_and_not_before() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let store = MapStore::of((0..20).map(|n| (n, 5)));
    let (mut setup, _failure) = setup(uffd, &guest, store);
    setup.policy.read_ahead = 32;
    let bytes = (0..10).flat_map(|_| *filled(5)).collect();
    setup.prefetched = Prefetched::new((0..10).map(page).collect(), bytes).unwrap();
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(3, 5) && guest.is(4, 5));
    assert_eq!(guest.resident(), [3, 4], "each for itself");
    assert!(guest.is(12, 5));
    let stopped = pager.stop();
    assert_eq!(guest.resident(), [3, 4].into_iter().chain(12..20).collect::<Vec<_>>());
    assert_eq!(stopped.faulted, [page(3), page(4), page(12)]);
    assert_eq!(stopped.store.reads, [8], "what was prefetched is not read again");
    assert_eq!(stopped.store.pages.len(), 10, "what nobody touched is still in the store");
}

#[test]
fn a_pager_that_was_stopped_is_followed_by_another() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(64);
    let store = MapStore::of((0..64).map(|n| (n, 1 + u64::from(n))));
    let (first, _failure) = setup(uffd, &guest, store);
    let pager = Pager::start(first).unwrap();
    assert!(guest.is(10, 11));
    let stopped = pager.stop();
    std::thread::scope(|scope| {
        // Nobody serves this yet.
        let waiting = scope.spawn(|| guest.is(20, 21));
        let (second, _failure) = setup(stopped.uffd, &guest, stopped.store);
        let pager = Pager::start(second).unwrap();
        assert!(waiting.join().unwrap());
        assert!(guest.is(10, 11) && guest.is(63, 64));
        assert_eq!(pager.stop().faulted, [page(20), page(63)]);
    });
}

#[test]
fn ranges_must_be_the_guests() {
    let Some(uffd) = uffd() else { return };
    let guest = Guest::new(16);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::default());
    setup.missing = vec![page(8)..page(17)];
    assert!(matches!(Pager::start(setup), Err(StartError::Ranges)));
}
