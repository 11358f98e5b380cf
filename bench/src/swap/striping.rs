//! What more disks are worth: the same guest over one, two and four that are equally slow.

use super::big::Big;
use super::loops::Loop;
use super::place::Place;
use super::throttle::Throttle;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::SwapOptions;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::Result;
use std::path::Path;

/// How many disks there are.
pub(super) const DISKS: [usize; 3] = [1, 2, 4];

/// Bytes that each disk reads, and writes, in a second.
pub(super) const BYTES_PER_S: u64 = 40_000_000;

/// The guest is smaller than others, which have faster disks, by so much.
const PART: u32 = 4;

/// MiB that a disk has beside its part of a region: the file system's own.
const SPARE_MIB: u32 = 64;

/// Rounds: what is throttled is exact.
const ROUNDS: usize = 3;

/// MiB of the guest's memory that it looks at.
pub(super) fn mib(options: &SwapOptions) -> u32 {
    options.mib.div_ceil(PART)
}

/// Why this cannot be measured here, if so.
pub(super) fn problem() -> Option<String> {
    Loop::problem().or_else(Throttle::problem)
}

/// Measures one back end with each number of disks.
pub(super) fn measure(
    backend: Backend,
    options: &SwapOptions,
    place: &Place,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut single = None;
    for disks in DISKS {
        eprintln!("{}: {disks} slow disks", backend.title());
        let (out, woken) = measure_with(disks, backend, mib(options), place, programs)?;
        let (out_of_one, woken_of_one) = *single.get_or_insert((out, woken));
        let suffix = backend.suffix();
        let mut set = |name: &str, value: Option<f64>| {
            figures.set(format!("stripes_{name}_{disks}{suffix}"), value);
        };
        let factor = |one: Option<f64>, more: Option<f64>| Some(one? / more?);
        set("out_ms", out);
        set("wake_ms", woken);
        set("out_factor", factor(out_of_one, out));
        set("wake_factor", factor(woken_of_one, woken));
    }
    Ok(())
}

/// How long the guest's memory takes to leave, and to come back, in ms: medians.
fn measure_with(
    disks: usize,
    backend: Backend,
    mib: u32,
    place: &Place,
    programs: &Programs,
) -> Result<(Option<f64>, Option<f64>)> {
    // A region is twice as large as the guest, which is larger than what it looks at.
    let each = 3 * (mib + SPARE_MIB) / disks as u32 + SPARE_MIB;
    let loops = (0..disks).map(|number| Loop::new(&format!("disk{number}"), each, place));
    let loops: Vec<Loop> = loops.collect::<Result<_>>()?;
    let devices: Vec<&str> = loops.iter().map(Loop::device).collect();
    let folders: Vec<&Path> = loops.iter().map(Loop::folder).collect();
    let _throttle = Throttle::enter(&devices, BYTES_PER_S)?;
    let mut guest = Big::start("big", (backend, mib), &folders, place, programs)?;
    let (mut out, mut woken) = (Series::default(), Series::default());
    for _ in 0..ROUNDS {
        out.push(guest.swap_out()? * 1e3);
        woken.push(guest.check()? * 1e3);
    }
    Ok((out.median(), woken.median()))
}
