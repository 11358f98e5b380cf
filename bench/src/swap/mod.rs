//! `bench swap`: guests that leave memory and come back.
//!
//! | file | its job |
//! |---|---|
//! | `wake` | parked guests: from a client's connection to its answer |
//! | `out` | the same where the monitors stay |
//! | `variants` | without reading ahead, and without encryption |
//! | `memory` | what a parked guest costs its keeper |
//! | `throughput` | a large guest, beside its disk and the kernel's swap |
//! | `striping` | more disks |
//! | `paging` | less memory than a guest needs |
//! | `keep`, `seen`, `visits`, `control` | keepers, what they tell, clients, commands |
//! | `big`, `raw`, `kernel` | the large guest, its disk, the kernel's swap of it |
//! | `loops`, `throttle` | slow disks |

mod big;
mod cached;
mod control;
mod keep;
mod kernel;
mod loops;
mod memory;
mod out;
mod paging;
mod place;
mod plots;
mod random;
mod raw;
mod seen;
mod striping;
mod text;
mod throttle;
mod throughput;
mod variants;
mod visits;
mod wake;

use crate::backend::Backend;
use crate::document::finish;
use crate::figures::Figures;
use crate::guest;
use crate::latencies::Latencies;
use crate::options::{SwapOptions, SwapPart};
use crate::programs::Programs;
use anyhow::{Context, Result};
use place::Place;
use wake::Woken;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &SwapOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    text::declare(options, &mut figures);
    let place = Place::new()?;
    let (mut parked, mut out) = (Vec::new(), Vec::new());
    for backend in options.common.backends() {
        match guest::problem(backend, &programs)? {
            Some(problem) => figures.skip(backend.title(), &problem),
            None => {
                let mut bench = Bench { options, place: &place, programs: &programs };
                let measured = bench.measure(backend, &mut figures);
                let (woken, swapped_out) = measured.with_context(|| programs.last_message())?;
                parked.extend(woken);
                out.extend(swapped_out.map(|latencies| (backend, latencies)));
            }
        }
    }
    let writes = options.common.writes() && options.only.is_empty();
    if writes {
        plots::write(&parked, &out, &figures)?;
    }
    let common = options.common.clone().writing(writes);
    finish(&common, &figures, &[("swap", text::document(&figures, options))])
}

struct Bench<'a> {
    options: &'a SwapOptions,
    place: &'a Place,
    programs: &'a Programs,
}

impl Bench<'_> {
    fn measures(&self, part: SwapPart) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&part)
    }

    /// Measures one back end; gives what plots show.
    fn measure(
        &mut self,
        backend: Backend,
        figures: &mut Figures,
    ) -> Result<(Option<Woken>, Option<Latencies>)> {
        let Self { options, place, programs } = *self;
        if self.measures(SwapPart::Throughput) {
            throughput::measure(backend, options, place, programs, figures)?;
        }
        if self.measures(SwapPart::Striping) {
            match striping::problem() {
                Some(problem) => figures.skip("more disks", &problem),
                None => striping::measure(backend, options, place, programs, figures)?,
            }
        }
        if self.measures(SwapPart::Paging) && backend == Backend::Kvm {
            paging::measure(backend, options, place, programs, figures)?;
        }
        if self.measures(SwapPart::Variants) {
            variants::measure(backend, options, place, programs, figures)?;
        }
        let (mut parked, mut out) = (None, None);
        if self.measures(SwapPart::Out) {
            let latencies = out::measure(backend, options, place, programs)?;
            out::fill(backend, &latencies, figures);
            out = Some(latencies);
        }
        if self.measures(SwapPart::Parked) {
            let woken = Woken::measure(backend, options, place, programs)?;
            woken.fill(figures);
            let all = (options.guests, woken.keeper_bytes);
            memory::measure(backend, all, place, programs, figures)?;
            parked = Some(woken);
        }
        Ok((parked, out))
    }
}
