//! `bench wake` and `bench idle`: how soon a guest runs when something happens, and how seldom when
//! nothing does.

mod client;
mod computing;
mod crowd;
mod guests;
pub(crate) mod native;
mod plots;
mod rounds;
mod text;
mod ticks;
mod timers;

use crate::document::finish;
use crate::figures::Figures;
use crate::guest;
use crate::options::{CrowdOptions, IdleOptions, WakeOptions};
use crate::programs::Programs;
use anyhow::Result;
use rounds::Rounds;
use ticks::Rate;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &WakeOptions) -> Result<()> {
    guests::pins();
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    figures.declare(&options.common.backends(), text::wake_names());
    let backends = guest::usable(&options.common, &programs, &mut figures)?;
    let rate = Rate::measure();
    let rounds = Rounds::measure(&backends, options, rate, &programs)?;
    rounds.fill(&mut figures);
    let mut computing = Vec::new();
    for &backend in &backends {
        computing.push((backend, computing::measure(backend, options, rate, &programs)?));
        timers::measure(backend, options.timer_seconds, &programs, &mut figures)?;
    }
    computing::fill(&computing, &mut figures);
    let idle = IdleOptions { common: options.common.clone(), crowd: options.crowd };
    measure_idle(&idle, &programs, &mut figures)?;
    if options.common.writes() {
        plots::write(&rounds, &computing)?;
    }
    let parts =
        [("wake", text::wake(&figures, options)), ("idle", text::idle(&figures, options.crowd))];
    finish(&options.common, &figures, &parts)
}

/// The same for idle guests alone.
pub(crate) fn run_idle(options: &IdleOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    measure_idle(options, &programs, &mut figures)?;
    finish(&options.common, &figures, &[("idle", text::idle(&figures, options.crowd))])
}

fn measure_idle(options: &IdleOptions, programs: &Programs, figures: &mut Figures) -> Result<()> {
    figures.declare(&options.common.backends(), text::idle_names());
    let CrowdOptions { guests, .. } = options.crowd;
    for backend in guest::usable(&options.common, programs, figures)? {
        if guests > 0 {
            crowd::measure(backend, options.crowd, programs, figures)?;
        }
    }
    Ok(())
}
