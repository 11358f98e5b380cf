//! `bench startup`: how fast guests start and end, and what an idle one costs.

mod first_http;
mod idle;
mod life;
mod text;
mod total;

use crate::backend::Backend;
use crate::document;
use crate::figures::Figures;
use crate::guest::{self, Way};
use crate::options::StartupOptions;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Context, Result};
use std::fs;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &StartupOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    let size = fs::metadata(&programs.monitor).context("cannot look at denali-vmm")?.len();
    figures.set("binary_kib", Some(size as f64 / 1024.0));
    figures.set("binary_kib_process", Some(size as f64 / 1024.0));
    figures.declare(&options.common.backends(), text::names());
    for backend in guest::usable(&options.common, &programs, &mut figures)? {
        measure(backend, options, &programs, &mut figures)?;
    }
    document::finish(&options.common, &figures, &[("startup", text::document(&figures, options))])
}

fn measure(
    backend: Backend,
    options: &StartupOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    eprintln!("{}: {} starts of each kind", backend.title(), options.runs);
    life::measure(backend, options.runs, programs, figures)?;
    first_http::measure(backend, options.runs, programs, figures)?;
    if options.guests > 0 {
        for way in Way::ALL {
            idle::measure((backend, way), options, programs, figures)?;
            total::measure((backend, way), options.guests, programs, figures)?;
        }
    }
    Ok(())
}

/// Sets the figures of a time: its median by its name, and the spread.
fn set_times(figures: &mut Figures, name: &str, backend: Backend, times: &Series) {
    let Some(summary) = times.summary() else { return };
    let values = [("", summary.median), ("_min", summary.min), ("_p90", summary.p90)];
    for (statistic, value) in values {
        figures.set(format!("{name}{statistic}_ms{}", backend.suffix()), Some(value));
    }
}
