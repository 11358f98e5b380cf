//! Tests of guests that have more memory than may be resident.

use super::failing::limit;
use super::support::*;
use crate::{Backing, Limit, Pager, Setup};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in memory of registered mappings of `length` bytes, or twice as many where two are one: of the
/// guest and the staging area of one test, where no other has mappings of this length.
fn registered_bytes(length: usize) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut size, mut resident, mut total) = (0, 0, 0);
    for line in maps.lines() {
        let number = || line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10;
        if line.starts_with("Size:") {
            size = number();
        } else if line.starts_with("Rss:") {
            resident = number();
        } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "um") {
            total += if size == length || size == 2 * length { resident } else { 0 };
        }
    }
    total
}

/// One thread of a guest: the pages it has for itself, and what is in them.
struct Worker<'a> {
    guest: &'a Guest,
    number: u32,
    of: u32,
    rounds: Vec<u64>,
    random: Scattered,
}

impl Worker<'_> {
    /// What a page holds that was written so many times: each word another.
    fn pattern(index: u32, round: u64, word: usize) -> u64 {
        if round == 0 { 0 } else { (u64::from(index) << 32 | round << 12) + word as u64 }
    }

    /// Checks one of its pages byte for byte, and writes it anew or not.
    fn visit(&mut self, at: usize, write: bool) {
        let index = at as u32 * self.of + self.number;
        let round = self.rounds[at];
        for word in 0..512 {
            let (found, expected) =
                (self.guest.read(index, word), Self::pattern(index, round, word));
            assert_eq!(found, expected, "page {index}, word {word}");
        }
        if write {
            self.rounds[at] += 1;
            let round = self.rounds[at];
            (0..512)
                .for_each(|word| self.guest.write(index, word, Self::pattern(index, round, word)));
        }
    }

    fn visit_at_random(&mut self, count: usize) {
        for _ in 0..count {
            let at = self.random.below(self.rounds.len() as u32) as usize;
            let write = self.random.below(2) == 0;
            self.visit(at, write);
        }
    }

    fn visit_in_order(&mut self, write: bool) {
        (0..self.rounds.len()).for_each(|at| self.visit(at, write));
    }

    /// Visits a few pages often and the others seldom.
    fn visit_favourites(&mut self, count: usize) {
        let favourites = (self.rounds.len() / 20).max(1) as u32;
        for n in 0..count {
            let at = self.random.below(favourites) as usize;
            self.visit(at, n % 3 == 0);
            if n % 8 == 0 {
                self.visit_at_random(1);
            }
        }
    }
}

/// What is done with a guest, step by step.
const STEPS: [fn(&mut Worker<'_>, usize); 6] = [
    |worker, _| worker.visit_in_order(true),
    |worker, visits| worker.visit_at_random(visits),
    |worker, _| worker.visit_in_order(false),
    |worker, visits| worker.visit_favourites(visits),
    |worker, _| worker.visit_in_order(true),
    |worker, visits| worker.visit_at_random(visits),
];

/// Has two threads work on a guest with a limit, and checks everything.
fn work<S: Backing + Send + 'static>(limit: usize, visits: usize, setup: Setup<S>, guest: &Guest) {
    let pager = Pager::start(setup).unwrap();
    let mut workers = [0, 1].map(|number| Worker {
        guest,
        number,
        of: 2,
        rounds: vec![0; (guest.count / 2) as usize],
        random: Scattered(u64::from(number)),
    });
    for step in STEPS {
        std::thread::scope(|scope| {
            workers.iter_mut().for_each(|worker| drop(scope.spawn(|| step(worker, visits))));
        });
        let counters = pager.counters();
        assert!(counters.resident <= limit as u64, "{counters:?}");
        let bytes = registered_bytes(guest.count as usize * 4096);
        assert!(0 < bytes && bytes <= limit * 4096, "{bytes} bytes are in memory, {counters:?}");
    }
    let stopped = pager.stop();
    let counters = stopped.counters;
    assert!(counters.soft_faults > 0 && counters.written > 0, "{counters:?}");
    assert!(counters.evicted >= counters.written, "{counters:?}");
    assert_eq!(counters.over_limit, 0);
    check_where_all_pages_are(guest, stopped.store, &workers);
}

/// Nothing is staged: every page is the guest's, in the store, or nowhere if it is zeroes.
fn check_where_all_pages_are(guest: &Guest, mut store: impl Backing, workers: &[Worker<'_>; 2]) {
    let resident = guest.resident();
    for index in 0..guest.count {
        let round = workers[index as usize % 2].rounds[index as usize / 2];
        let pattern = |word| Worker::pattern(index, round, word);
        let held = store.contains(page(index));
        if resident.binary_search(&index).is_ok() {
            assert!((0..512).all(|word| guest.read(index, word) == pattern(word)));
            assert!(!held, "page {index} is in memory and in the store");
        } else if held {
            let mut bytes = [0; 4096];
            assert!(store.read(&[page(index)], &mut bytes).is_ok());
            let expected: Vec<u8> = (0..512).flat_map(|word| pattern(word).to_ne_bytes()).collect();
            assert_eq!(bytes[..], expected);
        } else {
            assert_eq!(round, 0, "page {index} is lost");
        }
    }
}

#[test]
fn no_step_of_threads_that_share_pages_is_lost() {
    const THREADS: u64 = 4;
    const STEPS: u64 = 5_000;
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(300);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.originals = MapOriginals::of((0..20).map(|n| (n, 0)));
    setup.limit = Some(limit(64));
    let pager = Pager::start(setup).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let guest = &guest;
            scope.spawn(move || {
                let mut random = Scattered(thread / 2);
                for _ in 0..STEPS {
                    let counter = guest.word(random.below(300), 1);
                    // SAFETY: the word lies in the mapping, and all threads access it as an atomic.
                    unsafe { AtomicU64::from_ptr(counter) }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((0..300).map(|n| guest.read(n, 1)).sum::<u64>(), THREADS * STEPS);
    drop(pager.stop());
    assert!(failure.try_recv().is_err());
}

/// A limit whose virtual time goes on with each look at it.
fn ticking(pages: usize) -> Limit {
    let time = AtomicU64::new(0);
    let clock = Box::new(move || time.fetch_add(10_000, Ordering::Relaxed));
    Limit { clock, ..limit(pages) }
}

#[test]
fn a_guest_works_in_a_quarter_of_its_memory() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(16_384);
    let files = Files::new(16_384);
    let (mut setup, failure) = setup(uffd, &guest, files.store());
    setup.limit = Some(ticking(4096));
    work(4096, 4_000, setup, &guest);
    assert!(failure.try_recv().is_err());
}

#[test]
fn a_guest_works_in_the_least_memory() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(5_000);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.limit = Some(ticking(64));
    setup.policy.read_ahead = 4;
    work(64, 1_000, setup, &guest);
    assert!(failure.try_recv().is_err());
}

#[test]
fn a_guest_that_fits_is_left_alone() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(1000);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::default());
    setup.limit = Some(limit(1400));
    let pager = Pager::start(setup).unwrap();
    for round in 1..4 {
        (0..1000).for_each(|n| guest.set(n, round));
    }
    let counters = pager.stop().counters;
    assert_eq!((counters.staged, counters.evicted, counters.resident), (0, 0, 1000));
}

#[test]
fn what_is_as_the_image_has_it_or_zeroes_is_not_written() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(2000);
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::default());
    setup.originals = MapOriginals::of((0..1000).map(|n| (n, 9)));
    setup.limit = Some(limit(128));
    let pager = Pager::start(setup).unwrap();
    assert!((0..1000).all(|n| guest.is(n, 9)));
    assert!((1000..2000).all(|n| guest.is(n, 0)));
    let counters = pager.counters();
    assert_eq!(counters.written, 0, "{counters:?}");
    // A page of the image that became zeroes is not as the image has it.
    guest.set(5, 0);
    guest.set(1005, 1);
    guest.set(1006, 0);
    assert!((100..1000).all(|n| guest.is(n, 9)));
    assert_eq!(pager.counters().written, 2);
    assert!(guest.is(5, 0) && guest.is(1005, 1) && guest.is(1006, 0) && guest.is(6, 9));
    drop(pager.stop());
}

#[test]
fn what_was_in_memory_before_is_counted_and_trimmed() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(1000);
    (0..600).for_each(|n| guest.set(n, 1 + u64::from(n)));
    // One of them is in the store too, as it was before.
    let (mut setup, _failure) = setup(uffd, &guest, MapStore::of([(0, 77)]));
    setup.limit = Some(Limit { pinned: vec![page(3), page(999)], ..limit(256) });
    let pager = Pager::start(setup).unwrap();
    assert!(guest.is(999, 0), "and now the first step is over");
    let counters = pager.counters();
    assert!(counters.resident <= 256, "{counters:?}");
    assert!((0..600).rev().all(|n| guest.is(n, 1 + u64::from(n))));
    assert!(guest.resident().contains(&3), "pinned");
    let stopped = pager.stop();
    assert!(guest.resident().contains(&3) && guest.resident().contains(&999));
    assert!(!stopped.faulted.contains(&page(3)));
    assert!(guest.resident().len() <= 256);
}

#[test]
fn pages_that_somebody_discards_are_zeroes_and_nobody_waits_for_them() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(1000);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.limit = Some(limit(128));
    let pager = Pager::start(setup).unwrap();
    (0..40).for_each(|n| guest.set(n, 1));
    // SAFETY: the range lies in the guest's memory, to which there is no reference.
    unsafe { libc::madvise(guest.word(10, 0).cast(), 20 * 4096, libc::MADV_DONTNEED) };
    assert!(guest.is(15, 0));
    (40..1000).for_each(|n| guest.set(n, 1));
    assert!((0..1000).all(|n| guest.is(n, u64::from(!(10..30).contains(&n)))));
    assert!(pager.counters().resident <= 128);
    drop(pager.stop());
    assert!(failure.try_recv().is_err());
}

#[test]
fn a_page_under_input_or_output_stays() {
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(2000);
    let (mut setup, failure) = setup(uffd, &guest, MapStore::default());
    setup.limit = Some(limit(64));
    let pager = Pager::start(setup).unwrap();
    let running = Arc::new(AtomicU64::new(1));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The disk writes to pages of the guest while others of it come and go.
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(40 * 4096).unwrap();
            let direct =
                fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(file.path());
            let direct = direct.unwrap_or_else(|_| file.reopen().unwrap());
            while running.load(Ordering::Relaxed) == 1 {
                let start = guest.word(0, 0).cast();
                // SAFETY: the range lies in the guest's memory.
                let read = unsafe { libc::pread(direct.as_raw_fd(), start, 40 * 4096, 0) };
                assert_eq!(read, 40 * 4096);
            }
        });
        for round in 1..6 {
            (100..2000).for_each(|n| guest.set(n, round));
            assert!((100..2000).all(|n| guest.is(n, round)), "round {round}");
        }
        running.store(0, Ordering::Relaxed);
        thread.join().unwrap();
    });
    assert!((0..40).all(|n| guest.is(n, 0)));
    drop(pager.stop());
    assert!(failure.try_recv().is_err());
}

#[test]
fn paging_can_be_stopped_while_the_guest_works() {
    let Some(mut uffd) = moving_uffd() else { return };
    let guest = Guest::new(1000);
    let mut store = MapStore::default();
    let running = AtomicU64::new(1);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut round = 0;
            while running.load(Ordering::Relaxed) == 1 {
                round += 1;
                for n in 0..1000 {
                    assert!(
                        guest.is(n, if round == 1 { 0 } else { round - 1 }),
                        "page {n}, round {round}"
                    );
                    guest.set(n, round);
                }
            }
            round
        });
        for _ in 0..20 {
            let (mut setup, failure) = setup(uffd, &guest, store);
            setup.limit = Some(limit(100));
            let pager = Pager::start(setup).unwrap();
            while pager.counters().faults < 500 {
                std::thread::yield_now();
            }
            let stopped = pager.stop();
            assert!(failure.try_recv().is_err());
            (uffd, store) = (stopped.uffd, stopped.store);
        }
        let (mut setup, _failure) = setup(uffd, &guest, store);
        setup.limit = Some(limit(100));
        running.store(0, Ordering::Relaxed);
        let pager = Pager::start(setup).unwrap();
        let round = thread.join().unwrap();
        assert!((0..1000).all(|n| guest.is(n, round)));
        drop(pager.stop());
    });
}

#[test]
fn who_goes_all_over_the_place_has_little_brought_in_vain() {
    const PAGES: u32 = 4096;
    let Some(uffd) = moving_uffd() else { return };
    let guest = Guest::new(PAGES);
    let files = Files::new(PAGES);
    let (mut setup, _failure) = setup(uffd, &guest, files.store());
    setup.limit = Some(limit(PAGES as usize / 4));
    setup.policy.read_ahead = 16;
    let pager = Pager::start(setup).unwrap();
    (0..PAGES).for_each(|index| guest.write(index, 0, u64::from(index) + 1));
    let before = pager.counters();
    // Data lie across the borders of pages.
    for index in (0..PAGES - 1).map(|n| n * 577 % (PAGES - 1)) {
        for index in [index, index + 1] {
            assert_eq!(guest.read(index, 0) & 0xffff, u64::from(index) + 1);
            guest.write(index, 0, u64::from(index) + 1);
        }
    }
    let after = pager.counters();
    let (faults, ahead) = (after.faults - before.faults, after.read_ahead - before.read_ahead);
    assert!(ahead < 3 * faults, "{after:#?} after {before:#?}");
}
