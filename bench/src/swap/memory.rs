//! What a parked guest costs its keeper in memory.

use super::keep::{Keep, Kind};
use super::place::Place;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::proc;
use crate::programs::Programs;
use crate::summary::slope;
use anyhow::Result;

/// Resident memory of a keeper in bytes: its proportional share.
pub(super) fn keeper_bytes(keep: &Keep) -> Result<f64> {
    let mappings = proc::mappings(keep.pid())?;
    Ok(mappings.iter().map(|mapping| mapping.pss_kib * 1024.0).sum())
}

/// Measures with a quarter and a half of the guests, all of which were parked once; `all` is how many there
/// are, and what their keeper had.
pub(super) fn measure(
    backend: Backend,
    all: (u32, f64),
    place: &Place,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut points = vec![(f64::from(all.0), all.1)];
    for count in [all.0.div_ceil(4), all.0.div_ceil(2)] {
        eprintln!("{}: {count} guests are parked", backend.title());
        let named = (format!("memory{count}"), count as usize);
        let kind = Kind::parked(backend);
        let keep = Keep::start(kind, (&named.0, named.1), place, programs)?;
        keep.seen().await_parked()?;
        points.push((f64::from(count), keeper_bytes(&keep)?));
    }
    figures.set(format!("parked_guest_bytes{}", backend.suffix()), slope(&points));
    Ok(())
}
