//! `bench scale`: many guests that serve HTTP at once, with and without batched interrupts and idling.

mod latencies;
mod load;
mod processors;
mod rounds;
mod servers;
mod text;
mod variant;

use crate::backend::Backend;
use crate::document;
use crate::figures::Figures;
use crate::guest;
use crate::options::ScaleOptions;
use crate::programs::Programs;
use anyhow::Result;
use rounds::Rounds;

/// Measures, prints, and writes the document and its charts.
pub(crate) fn run(options: &ScaleOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    let names = options.guests.iter().flat_map(|&count| rounds::names(count as usize));
    let names = names.chain(["gain_factor", "gain_percent_second"].map(Into::into));
    figures.declare(&options.common.backends(), names);
    for backend in guest::usable(&options.common, &programs, &mut figures)? {
        measure(backend, options, &programs, &mut figures)?;
    }
    if options.common.writes() {
        text::plot(&figures, options)?;
    }
    document::finish(&options.common, &figures, &[("scale", text::document(&figures, options))])
}

fn measure(
    backend: Backend,
    options: &ScaleOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    // What this thread starts begins on its processor, too, and is moved once it serves.
    processors::take_ours()?;
    for &count in &options.guests {
        Rounds::measure(backend, count as usize, options, programs)?.fill(backend, figures);
    }
    let value =
        |name: &str, count: &u32| figures.get(&format!("{name}_{count}{}", backend.suffix()));
    let factor = options.guests.iter().max().and_then(|count| value("gain_factor", count));
    let mut gains: Vec<f64> =
        options.guests.iter().filter_map(|count| value("gain_percent", count)).collect();
    gains.sort_by(|one, other| other.total_cmp(one));
    figures.set(format!("gain_factor{}", backend.suffix()), factor);
    figures.set(format!("gain_percent_second{}", backend.suffix()), gains.get(1).copied());
    Ok(())
}
