//! What an idle guest costs in all, the kernel's memory included: the slope over many guests.

use crate::backend::Backend;
use crate::cgroup::{Charged, MemoryGroup};
use crate::figures::Figures;
use crate::guest::{Idlers, Way};
use crate::proc;
use crate::programs::Programs;
use crate::summary::{Series, slope};
use anyhow::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Memory has settled when it has moved by no more than this, in KiB, for [`STILL`] looks.
const QUIET_KIB: f64 = 1024.0;
const STILL: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for that on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures with a quarter, a half, and all of `guests`.
pub(super) fn measure(
    (backend, way): (Backend, Way),
    guests: u32,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    // Declared first, so that it is removed last, when all guests are gone.
    let group = match MemoryGroup::enter() {
        Ok(group) => Some(group),
        Err(error) => {
            figures.skip("memory by control group", &format!("{error:#}"));
            None
        }
    };
    let title = format!("{}, {}", backend.title(), way.title());
    let mut idlers = Idlers::new(backend, way, programs)?;
    let (mut used, mut charged) = (Vec::new(), Vec::new());
    for count in [guests.div_ceil(4), guests.div_ceil(2), guests] {
        idlers.grow(count as usize)?;
        let settled = settled_kib()?;
        eprintln!("{title}: {count} idle guests: {settled:.0} KiB in use");
        used.push((f64::from(count), settled));
        if let Some(group) = &group {
            charged.push((f64::from(count), group.charged()?));
        }
    }
    drop(idlers);
    let of_group = |part: fn(&Charged) -> f64| {
        let points: Vec<_> = charged.iter().map(|(count, it)| (*count, part(it))).collect();
        slope(&points)
    };
    let (whole, charged) = (slope(&used), of_group(|it| it.total));
    if let Some((whole, charged)) = whole.zip(charged)
        && (whole - charged).abs() > 0.1 * charged
    {
        eprintln!(
            "{title}: {whole:.0} KiB a guest by the machine's memory, {charged:.0} by the control group: \
             was the machine busy with something else?"
        );
    }
    let (infix, suffix) = (way.idle_infix(), backend.suffix());
    figures.set(format!("total_per_guest{infix}_kib{suffix}"), whole);
    figures.set(format!("cgroup_per_guest{infix}_kib{suffix}"), charged);
    figures.set(format!("cgroup_kernel_per_guest{infix}_kib{suffix}"), of_group(|it| it.kernel));
    Ok(())
}

/// Memory in use once it no longer changes.
fn settled_kib() -> Result<f64> {
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
