//! `bench fleet` and `bench load`: very many guests at once, and the load on them.
//!
//! | file | its job |
//! |---|---|
//! | `driver` | requests that come when they come, and what became of them |
//! | `saturation` | the most that a fleet can take |
//! | `guests` | what a fleet is, to whoever measures it |
//! | `supervised` | a fleet of guests under `denali supervisor` |
//! | `local` | servers for nothing but the driver |
//! | `measure` | what is measured of a fleet, in which order |
//! | `text` | the part of docs/performance.md, and what programs read |
//! | `load` | `bench load` |

mod driver;
mod guests;
mod load;
mod local;
mod measure;
mod saturation;
mod supervised;
mod text;

pub(crate) use load::run as run_load;

use crate::document::finish_with;
use crate::figures::Figures;
use crate::options::FleetOptions;
use crate::programs::Programs;
use anyhow::Result;
use measure::Course;
use supervised::Supervised;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &FleetOptions) -> Result<()> {
    let mut figures = Figures::default();
    text::declare(options, &mut figures);
    match supervised::problem() {
        Some(problem) => figures.skip("fleet", &problem),
        None => {
            let programs = Programs::find()?;
            let make = |guests, awake| Supervised::start(options, guests, awake, &programs);
            measure::measure(make, options, Course::of(options), &mut figures)?;
        }
    }
    let json = text::json(&figures, options);
    finish_with(
        &options.common,
        &figures,
        &json,
        &[(text::part(options), text::document(&figures, options))],
    )
}
