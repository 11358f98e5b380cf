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
        self.now();
        read
    }

    /// A thread that raises these lines in order, and gives each with its time.
    fn raiser(
        self: Arc<Self>,
        lines: &'static [usize],
    ) -> thread::JoinHandle<Vec<(usize, Option<u64>)>> {
        thread::spawn(move || lines.iter().map(|&number| (number, self.raise(number))).collect())
    }

    /// Collects; who sees a line sees what was written before it was raised.
    ///
    /// Loom remembers one access of each atomic. A thread's own load of the lines hides from it that the
    /// collector's load came before, so that it would not try the other order; ticks of the clock around
    /// both, which order nothing else, make it try.
    fn collect(&self, collector: &mut Collector) -> Option<(Batch, u64)> {
        self.now();
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

/// Each thread raises its lines in order; this one collects twice meanwhile, and once more at the end.
fn raise_and_collect(of_threads: &'static [&'static [usize]]) {
    let world = Arc::new(World::default());
    let raisers: Vec<_> = of_threads.iter().map(|lines| world.clone().raiser(lines)).collect();
    let mut collector = Collector::default();
    let mut batches: Vec<_> = (0..2).filter_map(|_| world.collect(&mut collector)).collect();
    let raises: Vec<_> = raisers.into_iter().flat_map(|raiser| raiser.join().unwrap()).collect();
    batches.extend(world.collect(&mut collector));

    assert_eq!(world.pending.raised(), raises.len() as u64);
    assert!(!world.pending.is_raised());
    let raised = raises.iter().fold(0, |all, (number, _)| all | 1 << number);
    assert_eq!(batches.iter().fold(0, |all, (batch, _)| all | batch.lines), raised, "lost");
    let posted: u32 = batches.iter().map(|(batch, _)| batch.lines.count_ones()).sum();
    assert!(posted as usize <= raises.len(), "posted twice");
    check_times(&batches, &raises);
}

/// A time held, where there is one, is from the time that a raiser of that batch read.
fn check_times(batches: &[(Batch, u64)], raises: &[(usize, Option<u64>)]) {
    let mut previous = 0;
    for (batch, collected) in batches {
        if let Some(held) = batch.held {
            let since = collected - held;
            assert!(since > previous, "from before the last batch was collected");
            let mut of_batch = raises.iter().filter(|(number, _)| batch.lines & 1 << number != 0);
            assert!(of_batch.any(|(_, time)| *time == Some(since)), "another batch's time");
        }
        previous = *collected;
    }
}

/// All interleavings with so many preemptions; `None` = with any number.
fn model(preemptions: Option<usize>, of_threads: &'static [&'static [usize]]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || raise_and_collect(of_threads));
}

#[test]
fn one_thread_beside_the_collector() {
    model(None, &[&[0]]);
    model(Some(4), &[&[0, 0]]);
    model(Some(4), &[&[0, 1]]);
}

#[test]
fn two_threads_beside_the_collector() {
    model(Some(3), &[&[0], &[1]]);
}

#[test]
fn two_threads_that_raise_again() {
    model(Some(2), &[&[0, 0], &[1]]);
    model(Some(2), &[&[0], &[0]]);
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
