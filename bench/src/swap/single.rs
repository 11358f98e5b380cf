//! Waking parked guests one at a time, with their image in the page cache and without.

use super::arrivals::{FIRST_RATE, next_parked, wake};
use super::cached;
use super::keep::{Keep, Kind};
use super::subject::Subject;
use super::visits;
use crate::latencies::Latencies;
use crate::random::Turns;
use anyhow::{Context, Result};

/// Keepers, each with an image of its own: while the guests that were woken last are awake still, and have their
/// keeper's image mapped, those of the next are parked.
const KEEPERS: usize = 5;

/// Guests of each keeper.
const GUESTS: usize = 4;

/// Clients, for each state of the page cache.
const CLIENTS: usize = 100;

/// How long wakes took, in ms.
#[derive(Debug, Default)]
pub(super) struct Single {
    pub(super) cached: Latencies,
    pub(super) uncached: Latencies,
}

impl Single {
    /// Measures, by turns without the image in the page cache and with it.
    pub(super) fn measure(subject: Subject<'_>) -> Result<Self> {
        eprintln!("{}: {} are woken, one at a time", subject.backend.title(), 2 * CLIENTS);
        let keepers = (0..KEEPERS).map(|number| start(number, subject));
        let mut keepers = keepers.collect::<Result<Vec<_>>>()?;
        let mut single = Self::default();
        for client in 0..CLIENTS {
            let (keep, turns) = &mut keepers[client % KEEPERS];
            keep.seen().await_parked()?;
            cached::give_up(&keep.images()).context("the image")?;
            single.uncached.push(visits::one(next_parked(keep, turns)?)?);
            // That one has brought the image into the cache.
            single.cached.push(visits::one(next_parked(keep, turns)?)?);
        }
        Ok(single)
    }
}

/// A keeper whose guests were all woken once, and are parked.
fn start(number: usize, subject: Subject<'_>) -> Result<(Keep, Turns)> {
    let Subject { backend, place, programs, .. } = subject;
    let named = (&*format!("single{number}"), GUESTS);
    let keep = Keep::start(Kind::parked(backend), named, place, programs)?;
    keep.seen().await_parked()?;
    let mut turns = Turns::new(GUESTS);
    wake(&keep, &mut turns, FIRST_RATE, GUESTS)?;
    Ok((keep, turns))
}
