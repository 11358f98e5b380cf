//! What reading ahead and sealing are worth: the same guests with and without, woken by turns.

use super::arrivals::{FIRST_RATE, wake};
use super::control;
use super::keep::{Keep, Kind};
use super::subject::Subject;
use super::visits;
use super::wake::{RATE, set};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::random::Turns;
use crate::summary::Series;
use anyhow::Result;
use denali_control::Life;

/// Clients of each variant in each round.
const IN_A_ROUND: usize = 40;

/// Guests of each variant whose faults are counted.
const COUNTED: usize = 20;

/// A variant of guests that are parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Default,
    WithoutPrefetch,
    WithoutEncryption,
}

impl Variant {
    pub(super) const ALL: [Self; 3] =
        [Self::Default, Self::WithoutPrefetch, Self::WithoutEncryption];

    /// What tells its keeper and its figures apart.
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::WithoutPrefetch => "without_prefetch",
            Self::WithoutEncryption => "without_encryption",
        }
    }

    /// What names of its latencies begin with.
    pub(super) fn latencies(self) -> String {
        format!("variants/{}_http", self.name())
    }

    /// The name of the figure of its faults.
    pub(super) fn faults(self) -> String {
        format!("variants/{}_faults", self.name())
    }

    /// What people read.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Default => "as by default",
            Self::WithoutPrefetch => "without reading ahead",
            Self::WithoutEncryption => "without encryption",
        }
    }

    fn kind(self, backend: Backend) -> Kind {
        let kind = Kind::parked(backend);
        match self {
            Self::Default => kind,
            Self::WithoutPrefetch => Kind { prefetch: false, ..kind },
            Self::WithoutEncryption => Kind { encrypt: false, ..kind },
        }
    }
}

/// A variant, and what it came to.
struct Measured {
    variant: Variant,
    keep: Keep,
    turns: Turns,
    latencies: Latencies,
}

/// Measures all variants of one back end.
pub(super) fn measure(subject: Subject<'_>, figures: &mut Figures) -> Result<()> {
    let Subject { backend, options, place, programs } = subject;
    let count = super::out::guests(options) as usize;
    let mut all = Vec::new();
    for variant in Variant::ALL {
        // The process back end reads everything ahead: it has no faults to serve.
        if backend == Backend::Process && variant == Variant::WithoutPrefetch {
            continue;
        }
        eprintln!("{}: {count} guests {}", backend.title(), variant.title());
        let keep = Keep::start(variant.kind(backend), (variant.name(), count), place, programs)?;
        keep.seen().await_parked()?;
        let mut turns = Turns::new(count);
        wake(&keep, &mut turns, FIRST_RATE, count)?;
        all.push(Measured { variant, keep, turns, latencies: Latencies::default() });
    }
    for round in 1..=options.runs {
        eprintln!("{}: round {round} of {}", backend.title(), options.runs);
        for Measured { keep, turns, latencies, .. } in &mut all {
            latencies.extend(wake(keep, turns, f64::from(RATE), IN_A_ROUND)?);
        }
    }
    let suffix = backend.suffix();
    for Measured { variant, keep, mut turns, latencies } in all {
        set(figures, &variant.latencies(), suffix, &latencies);
        let faults = count_faults(&keep, &mut turns)?;
        figures.set(format!("{}{suffix}", variant.faults()), faults.median());
    }
    Ok(())
}

/// Wakes guests one at a time, and has each leave again, so that it says how many pages it missed.
fn count_faults(keep: &Keep, turns: &mut Turns) -> Result<Series> {
    let mut faults = Series::default();
    for _ in 0..COUNTED {
        let number = turns.next();
        visits::one(keep.address(number))?;
        control::swap_out(&keep.control(number))?;
        let status = control::status(&keep.control(number))?;
        // One that was parked meanwhile has taken its counters along.
        if status.life == Life::SwappedOut {
            faults.push(status.faults as f64);
        }
    }
    Ok(faults)
}
