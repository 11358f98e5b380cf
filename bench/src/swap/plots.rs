//! The plots: how long waking takes, and what more disks are worth.

use super::striping;
use super::wake::Woken;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::latencies::Latencies;
use crate::plot::{Axis, Chart, Line, Scale};
use anyhow::Result;

/// Writes all of them.
pub(super) fn write(
    parked: &[Woken],
    out: &[(Backend, Latencies)],
    figures: &Figures,
) -> Result<()> {
    let line = |name: String, latencies: &Latencies| Line { name, points: latencies.exceeding() };
    let mut lines = Vec::new();
    for woken in parked {
        let title = woken.backend.title();
        lines.push(line(format!("{title}: parked"), woken.latencies()));
        lines.push(line(format!("{title}: image not cached"), woken.uncached()));
    }
    for (backend, latencies) in out {
        lines.push(line(format!("{}: swapped out", backend.title()), latencies));
    }
    let chart = Chart {
        title: "From a client's connection to its answer",
        x: Axis { title: "ms", scale: Scale::Log },
        y: Axis { title: "part of the wakes that takes longer", scale: Scale::Log },
        lines,
    };
    chart.write("swap-wake")?;
    stripes(figures).write("swap-stripes")
}

fn stripes(figures: &Figures) -> Chart<'static> {
    let mut lines = Vec::new();
    for backend in Backend::ALL {
        for (what, called) in [("out", "leaves"), ("in", "comes back")] {
            let point = |&disks: &usize| {
                let name = format!("{}/{what}_factor_{disks}{}", striping::GROUP, backend.suffix());
                Some((disks as f64, figures.get(&name)?))
            };
            let points: Vec<_> = striping::DISKS.iter().filter_map(point).collect();
            if !points.is_empty() {
                lines.push(Line { name: format!("{}: {called}", backend.title()), points });
            }
        }
    }
    Chart {
        title: "A guest over more disks",
        x: Axis { title: "disks that are equally slow", scale: Scale::Linear },
        y: Axis { title: "times as fast as with one", scale: Scale::Linear },
        lines,
    }
}
