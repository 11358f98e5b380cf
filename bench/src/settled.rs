//! Memory of the machine in use, once it no longer changes.

use crate::proc;
use crate::summary::Series;
use anyhow::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Memory has settled when it has moved by no more than this, in KiB, for [`STILL`] looks.
const QUIET_KIB: f64 = 1024.0;
const STILL: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for that on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// Memory of the machine in use, in KiB, once it no longer changes.
pub(crate) fn settled_kib() -> Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = Vec::new();
    loop {
        looks.push(proc::memory_used_kib()?);
        let last: Series = looks.iter().rev().take(STILL).copied().collect();
        if let Some(median) = last.median().filter(|_| last.len() == STILL) {
            let moved = last_spread(&looks);
            if moved <= QUIET_KIB || Instant::now() > deadline {
                return Ok(median);
            }
        }
        sleep(LOOK_EVERY);
    }
}

fn last_spread(looks: &[f64]) -> f64 {
    let last = looks.iter().rev().take(STILL).copied();
    last.clone().fold(f64::MIN, f64::max) - last.fold(f64::MAX, f64::min)
}
