//! Waking parked guests: from a client's connection to its answer.

use super::cached;
use super::keep::{Keep, Kind};
use super::place::Place;
use super::random::Turns;
use super::visits;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::options::SwapOptions;
use crate::programs::Programs;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Clients per second: how many names of figures have in them. The first is measured for the whole time, the
/// others for a quarter of it.
pub(super) const RATES: [u32; 3] = [20, 50, 100];

/// What names of figures at a rate have in them: the first is what there are goals for.
pub(super) fn name_at(rate: u32) -> String {
    if rate == RATES[0] { "wake".into() } else { format!("wake_{rate}") }
}

/// Clients per second at the first wakes, which find what is needed.
const FIRST_RATE: f64 = 30.0;

/// Clients that come one at a time, for each state of the page cache.
const SINGLE: usize = 60;

/// How long a client waits until it looks again for a guest that is parked.
const PAUSE: Duration = Duration::from_millis(1);

/// What guests were woken for, and how long it took, in ms.
#[derive(Debug)]
pub(super) struct Woken {
    pub(super) backend: Backend,
    /// The first time, after which it is known what a guest needs.
    first: Latencies,
    /// At each of [`RATES`].
    rates: Vec<Latencies>,
    /// At the first of them, until the guest ran, by its keeper.
    until_running: Latencies,
    /// One at a time, the image in the page cache, and not.
    single: [Latencies; 2],
    /// Memory of the keeper, all guests being parked.
    pub(super) keeper_bytes: f64,
}

impl Woken {
    /// Measures.
    pub(super) fn measure(
        backend: Backend,
        options: &SwapOptions,
        place: &Place,
        programs: &Programs,
    ) -> Result<Self> {
        let title = backend.title();
        eprintln!("{title}: {} guests are started and parked", options.guests);
        let named = ("wake", options.guests as usize);
        let keep = Keep::start(Kind::parked(backend), named, place, programs)?;
        keep.seen().await_parked()?;
        let keeper_bytes = super::memory::keeper_bytes(&keep)?;
        let mut turns = Turns::new(keep.count());
        eprintln!("{title}: each is woken for the first time");
        let first = wake(&keep, &mut turns, FIRST_RATE, keep.count())?;
        keep.seen().take_until_running();
        let (mut rates, mut until_running) = (Vec::new(), Latencies::default());
        for (place, rate) in RATES.into_iter().enumerate() {
            let seconds = if place == 0 { options.seconds } else { options.seconds.div_ceil(4) };
            let count = (rate * seconds) as usize;
            eprintln!("{title}: {count} are woken, {rate} a second");
            rates.push(wake(&keep, &mut turns, f64::from(rate), count)?);
            let told = keep.seen().take_until_running();
            if place == 0 {
                until_running = told;
            }
        }
        eprintln!("{title}: {} are woken, one at a time", 2 * SINGLE);
        let single = wake_single(&keep, &mut turns)?;
        Ok(Self { backend, first, rates, until_running, single, keeper_bytes })
    }

    /// Sets the figures.
    pub(super) fn fill(&self, figures: &mut Figures) {
        let suffix = self.backend.suffix();
        let mut set = |name: &str, latencies: &Latencies| {
            set(figures, &format!("parked_{name}"), suffix, latencies);
        };
        set("first", &self.first);
        for (rate, latencies) in RATES.iter().zip(&self.rates) {
            set(&name_at(*rate), latencies);
        }
        set("until_running", &self.until_running);
        set("single", &self.single[0]);
        set("single_uncached", &self.single[1]);
    }

    /// Those at the first rate.
    pub(super) fn latencies(&self) -> &Latencies {
        &self.rates[0]
    }

    /// Those whose image was not in the page cache.
    pub(super) fn uncached(&self) -> &Latencies {
        &self.single[1]
    }
}

/// Shares that figures are named after, in thousandths, and what people call them.
pub(super) const SHARES: [(usize, &str, &str); 3] =
    [(500, "p50", "median"), (990, "p99", "99 %"), (1000, "max", "max")];

/// Sets the figures of latencies in ms.
pub(super) fn set(figures: &mut Figures, name: &str, suffix: &str, latencies: &Latencies) {
    for (share, what, _) in SHARES {
        figures.set(format!("{name}_ms_{what}{suffix}"), latencies.percentile(share));
    }
}

/// Has clients come to parked guests, and waits until all are parked again.
pub(super) fn wake(keep: &Keep, turns: &mut Turns, rate: f64, count: usize) -> Result<Latencies> {
    let latencies = visits::come(rate, count, || next_parked(keep, turns))?;
    keep.seen().await_parked()?;
    Ok(latencies)
}

/// The next guest that is parked: with few guests, some are awake still when it is their turn.
fn next_parked(keep: &Keep, turns: &mut Turns) -> Result<SocketAddr> {
    loop {
        let found = (0..keep.count()).map(|_| turns.next());
        if let Some(number) = found.into_iter().find(|&number| keep.seen().is_parked(number)) {
            return Ok(keep.address(number));
        }
        sleep(PAUSE);
    }
}

/// By turns with the image in the page cache and without, all guests being parked.
fn wake_single(keep: &Keep, turns: &mut Turns) -> Result<[Latencies; 2]> {
    let mut latencies = <[Latencies; 2]>::default();
    for _ in 0..SINGLE {
        for (uncached, latencies) in latencies.iter_mut().enumerate() {
            keep.seen().await_parked()?;
            if uncached == 1 {
                without_cache(&keep.images())?;
            }
            latencies.push(visits::one(keep.address(turns.next()))?);
        }
    }
    keep.seen().await_parked()?;
    Ok(latencies)
}

fn without_cache(images: &Path) -> Result<()> {
    cached::give_up(images).context("the image")
}
