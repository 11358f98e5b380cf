//! What a monitor of an idle guest holds and does: its memory, its threads, its wake-ups.

use crate::backend::Backend;
use crate::figures::Figures;
use crate::guest::{Idlers, Way};
use crate::options::StartupOptions;
use crate::proc;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Result, bail};
use denali_abi::layout::RAM_START;
use std::thread::sleep;
use std::time::Duration;

/// Guests that run meanwhile, unless fewer are allowed.
const GUESTS: u32 = 50;

/// How long they are left alone before they are looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// Above this are no addresses of a guest.
const GUEST_END: u64 = 1 << 32;

/// Measures all three on the same guests.
pub(super) fn measure(
    (backend, way): (Backend, Way),
    options: &StartupOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let count = GUESTS.min(options.guests);
    let (title, seconds) = (backend.title(), options.seconds);
    eprintln!("{title}, {}: {count} idle guests, for {seconds} s", way.title());
    let mut idlers = Idlers::new(backend, way, programs)?;
    idlers.grow(count as usize)?;
    sleep(SETTLE);

    let monitors = idlers.pids();
    let mut everybody = Vec::new();
    for &pid in &monitors {
        everybody.push((pid, proc::children(pid)?));
    }
    let before = switches(&everybody)?;
    sleep(Duration::from_secs(u64::from(options.seconds)));
    let after = switches(&everybody)?;
    let per_10s = 10.0 / f64::from(options.seconds);
    let most = before.iter().zip(&after).map(|(before, after)| (after - before) * per_10s);
    let most = most.fold(0.0, f64::max);

    let mut pss = Series::default();
    let mut threads: f64 = 0.0;
    for (monitor, children) in &everybody {
        pss.push(pss_kib(*monitor, children, idlers.memory_bytes())?);
        threads = threads.max(proc::own_threads(*monitor)?);
    }
    let (infix, suffix) = (way.idle_infix(), backend.suffix());
    figures.set(format!("monitor_pss{infix}_kib{suffix}"), pss.median());
    figures.set(format!("threads{infix}{suffix}"), Some(threads));
    figures.set(format!("idle_switches{infix}_per_10s{suffix}"), Some(most));
    Ok(())
}

/// Context switches of each monitor and its traced child so far.
fn switches(everybody: &[(i32, Vec<i32>)]) -> Result<Vec<f64>> {
    let mut sums = Vec::with_capacity(everybody.len());
    for (monitor, children) in everybody {
        let mut sum = proc::context_switches(*monitor)?;
        for &child in children {
            sum += proc::context_switches(child)?;
        }
        sums.push(sum);
    }
    Ok(sums)
}

/// Proportional memory of a monitor and its traced child, apart from the guest's RAM.
fn pss_kib(monitor: i32, children: &[i32], memory_bytes: u64) -> Result<f64> {
    // Guest RAM, and nothing else in the monitor, is mapped without reserve: a mapping of many parts,
    // some of them the image's.
    let (ram, own): (Vec<_>, Vec<_>) =
        proc::mappings(monitor)?.into_iter().partition(|mapping| mapping.no_reserve);
    let ram_bytes: u64 = ram.iter().map(|mapping| mapping.end - mapping.start).sum();
    if ram_bytes != memory_bytes - RAM_START {
        bail!("guest RAM cannot be told from other memory of the monitor: {ram_bytes} bytes");
    }
    let mut sum: f64 = own.iter().map(|mapping| mapping.pss_kib).sum();
    for &child in children {
        let mappings = proc::mappings(child)?;
        let foreign = mappings.iter().filter(|mapping| mapping.end > GUEST_END);
        sum += foreign.map(|mapping| mapping.pss_kib).sum::<f64>();
    }
    Ok(sum)
}
