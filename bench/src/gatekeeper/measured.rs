//! What a simulation found.

use crate::figures::Figures;
use crate::spread::Spread;

/// What was counted while it was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Simulated time that was measured, in s.
    pub(super) seconds: f64,
    pub(super) requests: u64,
    /// Requests that found their guest in memory, and that found it there where the longest unwanted one leaves.
    pub(super) hits: u64,
    pub(super) lru_hits: u64,
    /// The part of requests that would find it there at best.
    pub(super) best: f64,
    pub(super) admitted: u64,
    pub(super) evicted: u64,
    /// From what wanted a guest to its admission, in simulated ns.
    pub(super) waits: Spread,
    /// Guests that waited at the end.
    pub(super) waiting: usize,
    /// What one call of the gatekeeper takes, in ns of this machine.
    pub(super) decision: Spread,
    pub(super) decisions: u64,
    /// What the gatekeeper has in memory, in bytes.
    pub(super) heap: usize,
}

/// Figures: how the name ends, what people call it, and how it is taken.
pub(super) type Figure = (&'static str, &'static str, fn(&Measured) -> Option<f64>);

/// All of them.
pub(super) const FIGURES: [Figure; 14] = [
    ("hit_ratio", "requests that find their guest in memory: the gatekeeper", |it| {
        it.part(it.hits)
    }),
    ("lru_hit_ratio", "the same if the guest unwanted for longest leaves at once", |it| {
        it.part(it.lru_hits)
    }),
    ("best_hit_ratio", "the same if the most wanted were always in memory", |it| Some(it.best)),
    ("wakes_per_s", "guests that come, a second", |it| it.rate(it.admitted)),
    ("lru_wakes_per_s", "the same if the guest unwanted for longest leaves at once", |it| {
        it.rate(it.requests - it.lru_hits)
    }),
    ("evictions_per_s", "guests that leave, a second", |it| it.rate(it.evicted)),
    ("wait_p50_ms", "wait until a guest is let in, median, ms", |it| it.wait_ms(500)),
    ("wait_p99_ms", "99th percentile", |it| it.wait_ms(990)),
    ("wait_max_ms", "the longest", |it| Some(it.waits.max() as f64 / 1e6)),
    ("waiting", "guests that wait at the end", |it| Some(it.waiting as f64)),
    ("decision_ns", "a decision, with all that is told for it, ns of this machine, mean", |it| {
        let total = it.decision.mean()? * it.decision.count() as f64;
        (it.decisions > 0).then(|| total / it.decisions as f64)
    }),
    ("decision_p99_ns", "99th percentile of a single call", |it| {
        Some(it.decision.percentile(990)? as f64)
    }),
    ("decision_max_us", "the longest single call, µs", |it| Some(it.decision.max() as f64 / 1e3)),
    ("gatekeeper_kib", "memory of the gatekeeper, KiB", |it| Some(it.heap as f64 / 1024.0)),
];

impl Measured {
    /// Adds all figures of this exponent.
    pub(super) fn fill(&self, alpha: f64, figures: &mut Figures) {
        for (name, _, of) in FIGURES {
            figures.set(name_of(alpha, name), of(self));
        }
    }

    fn part(&self, count: u64) -> Option<f64> {
        (self.requests > 0).then(|| count as f64 / self.requests as f64)
    }

    fn rate(&self, count: u64) -> Option<f64> {
        (self.seconds > 0.0).then(|| count as f64 / self.seconds)
    }

    fn wait_ms(&self, thousandths: u64) -> Option<f64> {
        Some(self.waits.percentile(thousandths)? as f64 / 1e6)
    }
}

/// The name of a figure of this exponent.
pub(super) fn name_of(alpha: f64, name: &str) -> String {
    format!("alpha-{alpha}/{name}")
}
