//! Waking guests that are swapped out and whose monitors stay: from a client's connection to its answer.

use super::control;
use super::keep::{Keep, Kind};
use super::place::Place;
use super::random::Turns;
use super::visits;
use super::wake::{RATES, set};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::options::SwapOptions;
use crate::programs::Programs;
use anyhow::{Result, bail};

/// Guests there are for each of those that are parked.
const PART: u32 = 5;

/// Clients per second at the first wakes.
const FIRST_RATE: f64 = 30.0;

/// How many guests there are.
pub(super) fn guests(options: &SwapOptions) -> u32 {
    options.guests.div_ceil(PART)
}

/// Measures, at the first rate of parked guests: latencies in ms.
pub(super) fn measure(
    backend: Backend,
    options: &SwapOptions,
    place: &Place,
    programs: &Programs,
) -> Result<Latencies> {
    let count = guests(options) as usize;
    eprintln!("{}: {count} guests are swapped out, and woken", backend.title());
    let kind = Kind { parked: false, ..Kind::parked(backend) };
    let keep = Keep::start(kind, ("out", count), place, programs)?;
    await_out(&keep)?;
    let mut turns = Turns::new(count);
    let mut next = || Ok(keep.address(turns.next()));
    visits::come(FIRST_RATE, count, &mut next)?;
    await_out(&keep)?;
    let rate = RATES[0];
    let visited = (rate * options.seconds.div_ceil(2)) as usize;
    let latencies = visits::come(f64::from(rate), visited, &mut next)?;
    await_out(&keep)?;
    let mut woken = 0;
    for number in 0..count {
        woken += control::status(&keep.control(number))?.woken as usize;
    }
    // Two clients may have come to one guest in a row: it was awake still for the second.
    let all = count + visited;
    if woken * 10 < all * 9 {
        bail!("{all} clients found guests out {woken} times only: there are too few guests");
    }
    Ok(latencies)
}

fn await_out(keep: &Keep) -> Result<()> {
    (0..keep.count()).try_for_each(|number| control::await_out(&keep.control(number)))
}

/// Sets the figures.
pub(super) fn fill(backend: Backend, latencies: &Latencies, figures: &mut Figures) {
    set(figures, "out_wake", backend.suffix(), latencies);
}
