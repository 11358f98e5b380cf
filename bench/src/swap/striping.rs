//! What more disks are worth: the same guest over one, two and four that are equally slow.

use super::big::Big;
use super::loops::Loop;
use super::subject::Subject;
use super::throttle::Throttle;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::SwapOptions;
use crate::place::Place;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Context, Result};
use std::path::Path;

/// Where the figures are for programs.
pub(super) const GROUP: &str = "stripes";

/// What names of figures have in them, for each number of disks.
pub(super) const FIGURES: [&str; 7] =
    ["gb_s", "out_gb_s", "in_gb_s", "out_ms", "in_ms", "out_factor", "in_factor"];

/// How many disks there are.
pub(super) const DISKS: [usize; 3] = [1, 2, 4];

/// Bytes that each disk reads, and writes, in a second.
pub(super) const BYTES_PER_S: u64 = 40_000_000;

/// The guest is smaller than others, which have faster disks, by so much.
const PART: u32 = 4;

/// MiB that a disk has beside its part of a region: the file system's own.
const SPARE_MIB: u32 = 64;

/// Rounds: what is throttled is exact.
const ROUNDS: usize = 2;

/// MiB of the guest's memory that it looks at.
pub(super) fn mib(options: &SwapOptions) -> u32 {
    options.mib.div_ceil(PART)
}

/// Why this cannot be measured here, if so.
pub(super) fn problem() -> Option<String> {
    Loop::problem().or_else(Throttle::problem)
}

/// Measures one back end with each number of disks.
pub(super) fn measure(subject: Subject<'_>, figures: &mut Figures) -> Result<()> {
    let Subject { backend, options, place, programs } = subject;
    let mut single = None;
    for disks in DISKS {
        eprintln!("{}: {disks} slow disks", backend.title());
        let moved = measure_with(disks, backend, mib(options), place, programs)?;
        let one = *single.get_or_insert(moved);
        let suffix = backend.suffix();
        let mut set = |name: &str, value: f64| {
            figures.set(format!("{GROUP}/{name}_{disks}{suffix}"), Some(value));
        };
        let gigabytes = |seconds: f64| moved.bytes / seconds / 1e9;
        set("gb_s", gigabytes(moved.out.max(moved.back)));
        set("out_gb_s", gigabytes(moved.out));
        set("in_gb_s", gigabytes(moved.back));
        set("out_ms", moved.out * 1e3);
        set("in_ms", moved.back * 1e3);
        set("out_factor", one.out / moved.out);
        set("in_factor", one.back / moved.back);
    }
    Ok(())
}

/// How long the guest's memory takes to leave, and to come back, in seconds: medians.
#[derive(Clone, Copy, Debug)]
struct Moved {
    bytes: f64,
    out: f64,
    back: f64,
}

fn measure_with(
    disks: usize,
    backend: Backend,
    mib: u32,
    place: &Place,
    programs: &Programs,
) -> Result<Moved> {
    // A region is twice as large as the guest, which is larger than what it looks at.
    let each = 3 * (mib + SPARE_MIB) / disks as u32 + SPARE_MIB;
    let loops = (0..disks).map(|number| Loop::new(&format!("disk{number}"), each, place));
    let loops: Vec<Loop> = loops.collect::<Result<_>>()?;
    let devices: Vec<&str> = loops.iter().map(Loop::device).collect();
    let folders: Vec<&Path> = loops.iter().map(Loop::folder).collect();
    let _throttle = Throttle::enter(&devices, BYTES_PER_S)?;
    let mut guest = Big::start("big", (backend, mib), &folders, place, programs)?;
    let (mut out, mut back) = (Series::default(), Series::default());
    for _ in 0..ROUNDS {
        out.push(guest.swap_out()?);
        back.push(guest.check()?);
    }
    let (out, back) = out.median().zip(back.median()).context("there were no rounds")?;
    Ok(Moved { bytes: guest.bytes(), out, back })
}
