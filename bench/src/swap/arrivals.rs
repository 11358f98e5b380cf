//! Clients that come to guests that are parked.

use super::keep::Keep;
use super::visits;
use crate::latencies::Latencies;
use crate::random::Turns;
use anyhow::Result;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

/// Clients per second at the first wakes, which find what is needed.
pub(super) const FIRST_RATE: f64 = 30.0;

/// How long a client waits until it looks again for a guest that is parked.
const PAUSE: Duration = Duration::from_millis(1);

/// Has clients come to parked guests, and waits until all are parked again.
pub(super) fn wake(keep: &Keep, turns: &mut Turns, rate: f64, count: usize) -> Result<Latencies> {
    let latencies = visits::come(rate, count, || next_parked(keep, turns))?;
    keep.seen().await_parked()?;
    Ok(latencies)
}

/// The next guest that is parked: those that are awake still when it is their turn are passed over.
pub(super) fn next_parked(keep: &Keep, turns: &mut Turns) -> Result<SocketAddr> {
    loop {
        let found = (0..keep.count()).map(|_| turns.next());
        if let Some(number) = found.into_iter().find(|&number| keep.seen().is_parked(number)) {
            return Ok(keep.address(number));
        }
        keep.seen().check()?;
        sleep(PAUSE);
    }
}
