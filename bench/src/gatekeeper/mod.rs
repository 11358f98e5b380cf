//! `bench gatekeeper`: the gatekeeper's policy with very many guests, in simulated time.
//!
//! | file | its job |
//! |---|---|
//! | `simulation` | a host whose guests are wanted by chance, and the gatekeeper that decides |
//! | `measured` | what was found |
//! | `lru` | the same requests, where the guest that was wanted longest ago leaves at once |
//! | `heap` | memory that the allocator has given out |
//! | `text` | the part of docs/performance.md |

mod heap;
mod lru;
mod measured;
mod simulation;
mod text;

use crate::document::finish_with;
use crate::figures::Figures;
use crate::options::GatekeeperOptions;
use crate::running::unless_ending;
use anyhow::Result;

/// Simulates, prints, and writes the document and its chart.
pub(crate) fn run(options: &GatekeeperOptions) -> Result<()> {
    let mut figures = Figures::default();
    for &alpha in &options.alpha {
        unless_ending();
        eprintln!("α = {alpha}: {} guests, {} in memory", options.guests, options.awake);
        simulation::simulate(options, alpha).fill(alpha, &mut figures);
    }
    if options.common.writes() {
        text::plot(&figures, options)?;
    }
    let json = text::json(&figures, options);
    finish_with(
        &options.common,
        &figures,
        &json,
        &[("gatekeeper", text::document(&figures, options))],
    )
}
