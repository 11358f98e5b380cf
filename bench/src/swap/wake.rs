//! Waking parked guests: from a client's connection to its answer.

use super::arrivals::{FIRST_RATE, wake};
use super::keep::{Keep, Kind};
use super::memory::Footprint;
use super::single::Single;
use super::subject::Subject;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::random::Turns;
use anyhow::Result;

/// Clients per second, for which there are goals.
pub(super) const RATE: u32 = 20;

/// Higher rates, each measured for a quarter of the time: names of figures have them in them.
pub(super) const HIGHER: [u32; 2] = [50, 100];

/// Guests that there must be for each client a second: a guest is awake for a second and a little after it was
/// wanted, because the gateway has its buffers for so long.
pub(super) const GUESTS_PER_RATE: u32 = 2;

/// Clients per second that so many guests can be woken by: [`RATE`], or fewer.
pub(super) fn rate_of(guests: u32) -> u32 {
    RATE.min(guests / GUESTS_PER_RATE)
}

/// How the names of latencies at a higher rate begin.
pub(super) fn name_at(rate: u32) -> String {
    format!("{GROUP}/http_at_{rate}")
}

/// Where the figures are for programs.
pub(super) const GROUP: &str = "wake-parked";

/// How long wakes took, in ms.
#[derive(Debug)]
pub(super) struct Woken {
    pub(super) backend: Backend,
    /// The first time, after which it is known what a guest needs.
    first: Latencies,
    /// At the rate for which there are goals.
    usual: Latencies,
    /// The same until the guest ran, by its keeper.
    until_running: Latencies,
    /// At each of [`HIGHER`] for which there are guests enough; a machine may be too slow for one.
    higher: Vec<(u32, Result<Latencies>)>,
    /// One at a time.
    single: Single,
    /// What the keeper had in the end.
    pub(super) footprint: Footprint,
}

impl Woken {
    /// Measures.
    pub(super) fn measure(subject: Subject<'_>) -> Result<Self> {
        let Subject { backend, options, place, programs } = subject;
        let title = backend.title();
        eprintln!("{title}: {} guests are started and parked", options.guests);
        let named = ("wake", options.guests as usize);
        let keep = Keep::start(Kind::parked(backend), named, place, programs)?;
        keep.seen().await_parked()?;
        let mut turns = Turns::new(keep.count());
        eprintln!("{title}: each is woken for the first time");
        let first = wake(&keep, &mut turns, FIRST_RATE, keep.count())?;
        keep.seen().take_until_running();
        let mut at = |rate: u32, seconds: u32| {
            let count = (rate * seconds) as usize;
            eprintln!("{title}: {count} are woken, {rate} a second");
            wake(&keep, &mut turns, f64::from(rate), count)
        };
        let usual = at(rate_of(options.guests), options.seconds)?;
        let until_running = keep.seen().take_until_running();
        let possible = HIGHER.into_iter().filter(|&rate| are_enough(options.guests, rate));
        let higher = possible.map(|rate| (rate, at(rate, options.seconds.div_ceil(4)))).collect();
        let footprint = Footprint::of(&keep)?;
        drop(keep);
        let single = Single::measure(subject)?;
        Ok(Self { backend, first, usual, until_running, higher, single, footprint })
    }

    /// Sets the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        let suffix = self.backend.suffix();
        let mut set = |name: &str, latencies: &Latencies| {
            set(figures, &format!("{GROUP}/{name}"), suffix, latencies);
        };
        set("first_http", &self.first);
        set("http", &self.usual);
        set("until_running", &self.until_running);
        set("single_http", &self.single.cached);
        set("cold_http", &self.single.uncached);
        for (rate, found) in &self.higher {
            match found {
                Ok(latencies) => self::set(figures, &name_at(*rate), suffix, latencies),
                Err(error) => figures.skip(&self.title(*rate), &format!("{error:#}")),
            }
        }
    }

    fn title(&self, rate: u32) -> String {
        format!("{}, {rate} clients a second", self.backend.title())
    }

    /// Names the rates for which there are not enough guests.
    pub(super) fn name_what_lacks(&self, guests: u32, figures: &mut Figures) {
        let all = [RATE].into_iter().chain(HIGHER);
        for rate in all.filter(|&rate| !are_enough(guests, rate)) {
            let wanted = rate * GUESTS_PER_RATE;
            let instead = match rate {
                RATE => format!("; {} came instead", rate_of(guests)),
                _ => String::new(),
            };
            let why = format!("{guests} guests are too few, it takes {wanted}{instead}");
            figures.skip(&self.title(rate), &why);
        }
    }

    /// Those at the rate for which there are goals.
    pub(super) fn latencies(&self) -> &Latencies {
        &self.usual
    }

    /// Those whose image was not in the page cache.
    pub(super) fn uncached(&self) -> &Latencies {
        &self.single.uncached
    }
}

fn are_enough(guests: u32, rate: u32) -> bool {
    guests >= rate * GUESTS_PER_RATE
}

/// Shares that figures are named after, in thousandths.
pub(super) const SHARES: [(usize, &str); 3] = [(500, "p50"), (990, "p99"), (1000, "max")];

/// Sets the figures of latencies in ms.
pub(super) fn set(figures: &mut Figures, name: &str, suffix: &str, latencies: &Latencies) {
    for (share, what) in SHARES {
        figures.set(format!("{name}_ms_{what}{suffix}"), latencies.percentile(share));
    }
}
