//! `bench net`: bulk TCP between host and guest over a tap, beside the same between two hosts over veth.

mod client;
mod latency;
mod place;
mod rounds;
mod server;
mod text;

use crate::document;
use crate::figures::Figures;
use crate::guest;
use crate::options::NetOptions;
use crate::programs::Programs;
use anyhow::Result;
use place::Place;
use rounds::Rounds;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &NetOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    figures.declare(&options.common.backends(), text::names());
    if let Some(problem) = client::problem().or_else(Place::problem) {
        figures.skip("net", &problem);
    } else {
        measure(options, &programs, &mut figures)?;
    }
    document::finish(&options.common, &figures, &[("net", text::document(&figures, options))])
}

fn measure(options: &NetOptions, programs: &Programs, figures: &mut Figures) -> Result<()> {
    let backends = guest::usable(&options.common, programs, figures)?;
    if backends.is_empty() {
        return Ok(());
    }
    let places = [Place::direct()?, Place::shaped()?];
    let rounds = Rounds::measure(&places, &backends, programs, options)?;
    rounds.fill(figures);
    latency::measure(&places[0], &backends, programs, figures)
}
