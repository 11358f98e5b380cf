//! `bench game`: game servers that bots play on, alone and beside guests that take all they can get.

mod bots;
mod guests;
mod measure;
mod text;

use crate::backend::Backend;
use crate::document;
use crate::figures::Figures;
use crate::guest;
use crate::options::GameOptions;
use crate::programs::Programs;
use anyhow::Result;
use guests::{Guests, Kind};
use measure::{Match, Measured};

/// Rounds in which servers are measured alone and beside hogs, in turn.
const ROUNDS: u32 = 3;

/// Measures, prints, and writes the document and its charts.
pub(crate) fn run(options: &GameOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    figures.declare(&options.common.backends(), text::names(options));
    for backend in guest::usable(&options.common, &programs, &mut figures)? {
        measure_all(backend, options, &programs, &mut figures)?;
    }
    if options.common.writes() {
        text::plot(&figures, options)?;
    }
    document::finish(&options.common, &figures, &[("game", text::document(&figures, options))])
}

fn measure_all(
    backend: Backend,
    options: &GameOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let mut most = None;
    for &count in &options.servers {
        eprintln!("{}: {count} servers", backend.title());
        let servers = Guests::start(&Kind::server(), backend, count as usize, programs)?;
        let measured = Match::begin(&servers)?.measure(options.seconds)?;
        measured.fill(&format!("_{count}"), backend, figures);
        most = most.max(measured.keeps_up().then_some(count));
    }
    figures.set(format!("servers{}", backend.suffix()), most.map(f64::from));
    beside_hogs(backend, options, programs, figures)
}

/// Measures the same servers alone and beside hogs, in turn.
fn beside_hogs(
    backend: Backend,
    options: &GameOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let servers = Guests::start(&Kind::server(), backend, options.beside as usize, programs)?;
    let mut game = Match::begin(&servers)?;
    let (mut alone, mut beside) = (Measured::default(), Measured::default());
    let seconds = options.seconds.div_ceil(ROUNDS);
    for round in 1..=ROUNDS {
        let count = options.beside;
        eprintln!("{}: {count} servers beside hogs, round {round} of {ROUNDS}", backend.title());
        alone.add(&game.measure(seconds)?);
        let hogs = [Kind::burns(), Kind::floods()];
        let hogs = hogs.iter().map(|kind| Guests::start(kind, backend, 1, programs));
        let hogs = hogs.collect::<Result<Vec<_>>>()?;
        game.play_on()?;
        beside.add(&game.measure(seconds)?);
        drop(hogs);
        game.play_on()?;
    }
    alone.fill("", backend, figures);
    beside.fill(text::BESIDE, backend, figures);
    let suffix = backend.suffix();
    figures.set(format!("servers{}{suffix}", text::BESIDE), Some(f64::from(options.beside)));
    for (name, _) in text::RATIOS {
        let value = |infix| figures.get(&format!("{name}{infix}{suffix}"));
        let ratio = value(text::BESIDE).zip(value("")).map(|(beside, alone)| beside / alone);
        figures.set(format!("{name}{}{suffix}", text::RATIO), ratio);
    }
    Ok(())
}
