//! Every interleaving of threads that raise and the one that collects, by loom, on the very source of the
//! batcher's shared part.

/// What the file below takes its atomics from.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/pending.rs"]
mod pending;

use loom::thread;
use pending::{Batch, Collector, Pending};
use std::sync::Arc;
use sync::{AtomicU64, Ordering};

/// One guest's lines, what devices wrote before they raised, and a clock that ticks when it is read.
#[derive(Default)]
struct World {
    pending: Pending,
    written: [AtomicU64; 2],
    clock: AtomicU64,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes and raises line `number`, and gives the time it read, where it read any.
    fn raise(&self, number: usize) -> Option<u64> {
        self.written[number].store(1, Ordering::Relaxed);
        let mut read = None;
        self.pending.raise(1 << number, || *read.insert(self.now()));
        read
    }

    /// Collects; who sees a line sees what was written before it was raised.
    fn collect(&self, collector: &mut Collector) -> Option<(Batch, u64)> {
        let mut time = 0;
        let batch = self.pending.collect(collector, || {
            time = self.now();
            time
        })?;
        for (number, written) in self.written.iter().enumerate() {
            if batch.lines & 1 << number != 0 {
                assert_eq!(written.load(Ordering::Relaxed), 1);
            }
        }
        Some((batch, time))
    }
}

/// Two threads raise a line each, the first one twice if `twice`; the third collects meanwhile, and once
/// more at the end.
fn two_raise(twice: bool) {
    let world = Arc::new(World::default());
    let raisers = [0, 1].map(|number| {
        let world = world.clone();
        thread::spawn(move || {
            let first = world.raise(number);
            [first, (twice && number == 0).then(|| world.raise(number)).flatten()]
        })
    });
    let mut collector = Collector::default();
    let mut batches: Vec<_> = (0..2).filter_map(|_| world.collect(&mut collector)).collect();
    let times = raisers.map(|raiser| raiser.join().unwrap());
    batches.extend(world.collect(&mut collector));

    assert_eq!(world.pending.raised(), 2 + u64::from(twice));
    assert!(!world.pending.is_raised());
    assert_eq!(batches.iter().fold(0, |all, (batch, _)| all | batch.lines), 0b11, "lost");
    let lines: u32 = batches.iter().map(|(batch, _)| batch.lines.count_ones()).sum();
    assert!((2..=2 + u32::from(twice)).contains(&lines), "posted twice");
    check_times(&batches, &times);
}

/// A time held, where there is one, is from the time that a raiser of that batch read.
fn check_times(batches: &[(Batch, u64)], times: &[[Option<u64>; 2]; 2]) {
    let mut previous = 0;
    for (batch, collected) in batches {
        if let Some(held) = batch.held {
            let since = collected - held;
            assert!(since > previous, "from before the last batch was collected");
            let of_batch = times.iter().enumerate().filter(|(it, _)| batch.lines & 1 << it != 0);
            assert!(of_batch.flat_map(|(_, times)| times).any(|time| *time == Some(since)));
        }
        previous = *collected;
    }
}

#[test]
fn nothing_is_lost_and_times_are_right() {
    loom::model(|| two_raise(false));
}

#[test]
fn raising_again_is_another_interrupt_only_after_a_collection() {
    loom::model(|| two_raise(true));
}

#[test]
fn a_raise_that_nobody_meets_always_has_its_time() {
    loom::model(|| {
        let world = Arc::new(World::default());
        let other = world.clone();
        let raiser = thread::spawn(move || other.raise(0));
        let time = raiser.join().unwrap();
        let (batch, collected) = world.collect(&mut Collector::default()).unwrap();
        assert_eq!(batch.held, time.map(|time| collected - time));
        assert!(batch.held.is_some());
    });
}
