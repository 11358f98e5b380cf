//! Waking guests that are swapped out and whose monitors stay: from a client's connection to its answer.

use super::arrivals::FIRST_RATE;
use super::control;
use super::keep::{Keep, Kind};
use super::subject::Subject;
use super::visits;
use super::wake::{GUESTS_PER_RATE, RATE, set};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::options::SwapOptions;
use crate::random::Turns;
use anyhow::{Result, bail};
use denali_control::Life;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

/// Guests there are for each of those that are parked.
const PART: u32 = 20;

/// How long a client waits until it looks again for a guest that is out.
const PAUSE: Duration = Duration::from_millis(1);

/// How names of latencies begin.
pub(super) const LATENCIES: &str = "wake-swapped-out/http";

/// How many guests there are: enough for the rate.
pub(super) fn guests(options: &SwapOptions) -> u32 {
    options.guests.div_ceil(PART).max(RATE * GUESTS_PER_RATE)
}

/// Measures, at the rate of parked guests: latencies in ms.
pub(super) fn measure(subject: Subject<'_>) -> Result<Latencies> {
    let Subject { backend, options, place, programs } = subject;
    let count = guests(options) as usize;
    eprintln!("{}: {count} guests are swapped out, and woken", backend.title());
    let kind = Kind { parked: false, ..Kind::parked(backend) };
    let keep = Keep::start(kind, ("out", count), place, programs)?;
    await_out(&keep)?;
    let mut turns = Turns::new(count);
    visits::come(FIRST_RATE, count, || next_out(&keep, &mut turns))?;
    await_out(&keep)?;
    let woken_before = woken(&keep)?;
    let visited = RATE * options.seconds.div_ceil(2);
    let next = || next_out(&keep, &mut turns);
    let latencies = visits::come(f64::from(RATE), visited as usize, next)?;
    await_out(&keep)?;
    let times = woken(&keep)? - woken_before;
    // None woke by itself: so none did so in the moment between when it was looked at and its client's coming.
    if times != u64::from(visited) {
        bail!("{visited} clients have woken guests {times} times");
    }
    Ok(latencies)
}

/// The next guest whose memory is out: those that are awake still when it is their turn are passed over.
fn next_out(keep: &Keep, turns: &mut Turns) -> Result<SocketAddr> {
    loop {
        for _ in 0..keep.count() {
            let number = turns.next();
            if control::status(&keep.control(number))?.life == Life::SwappedOut {
                return Ok(keep.address(number));
            }
        }
        keep.seen().check()?;
        sleep(PAUSE);
    }
}

fn await_out(keep: &Keep) -> Result<()> {
    (0..keep.count()).try_for_each(|number| control::await_out(&keep.control(number)))
}

/// How many times guests' memory has come back, of all of them.
fn woken(keep: &Keep) -> Result<u64> {
    let woken = |number| Ok(control::status(&keep.control(number))?.woken);
    (0..keep.count()).map(woken).sum()
}

/// Sets the figures.
pub(super) fn fill(backend: Backend, latencies: &Latencies, figures: &mut Figures) {
    set(figures, LATENCIES, backend.suffix(), latencies);
}
