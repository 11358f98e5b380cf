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
use crate::document::finish_with;
use crate::figures::Figures;
use crate::guest;
use crate::latencies::Latencies;
use crate::options::{SwapOptions, SwapPart};
use crate::programs::Programs;
use crate::running::unless_ending;
use anyhow::{Result, bail};
use memory::Footprint;
use place::Place;
use wake::Woken;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &SwapOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    text::declare(options, &mut figures);
    let place = Place::new()?;
    let backends = guest::usable(&options.common, &programs, &mut figures)?;
    let (mut parked, mut out) = (Vec::new(), Vec::new());
    for &backend in &backends {
        let bench = Bench { options, place: &place, programs: &programs };
        let (woken, swapped_out) = bench.measure(backend, &mut figures);
        parked.extend(woken);
        out.extend(swapped_out.map(|latencies| (backend, latencies)));
    }
    let writes = options.common.writes() && options.only.is_empty();
    if writes {
        plots::write(&parked, &out, &figures)?;
    }
    let common = options.common.clone().writing(writes);
    let json = text::json(&figures, options, backends.first().copied());
    finish_with(&common, &figures, &json, &[("swap", text::document(&figures, options))])
}

struct Bench<'a> {
    options: &'a SwapOptions,
    place: &'a Place,
    programs: &'a Programs,
}

impl Bench<'_> {
    /// Measures one back end; gives what plots show. What fails is named, and the rest is measured.
    fn measure(
        &self,
        backend: Backend,
        figures: &mut Figures,
    ) -> (Option<Woken>, Option<Latencies>) {
        let Self { options, place, programs } = *self;
        self.part(SwapPart::Throughput, backend, figures, |figures| {
            throughput::measure(backend, options, place, programs, figures)
        });
        self.part(SwapPart::Striping, backend, figures, |figures| match striping::problem() {
            Some(problem) => bail!(problem),
            None => striping::measure(backend, options, place, programs, figures),
        });
        if backend == Backend::Kvm {
            self.part(SwapPart::Paging, backend, figures, |figures| {
                paging::measure(backend, options, place, programs, figures)
            });
        }
        self.part(SwapPart::Variants, backend, figures, |figures| {
            variants::measure(backend, options, place, programs, figures)
        });
        let out = self.part(SwapPart::Out, backend, figures, |figures| {
            let latencies = out::measure(backend, options, place, programs)?;
            out::fill(backend, &latencies, figures);
            Ok(latencies)
        });
        let parked = self.part(SwapPart::Parked, backend, figures, |figures| {
            let woken = Woken::measure(backend, options, place, programs)?;
            woken.fill(figures);
            woken.name_what_lacks(options.guests, figures);
            let few = Footprint::of_few(backend, place, programs)?;
            memory::fill(backend, woken.footprint.bytes_of_each(few), figures);
            Ok(woken)
        });
        (parked, out)
    }

    fn part<R>(
        &self,
        part: SwapPart,
        backend: Backend,
        figures: &mut Figures,
        measure: impl FnOnce(&mut Figures) -> Result<R>,
    ) -> Option<R> {
        if !self.options.only.is_empty() && !self.options.only.contains(&part) {
            return None;
        }
        match measure(figures) {
            Ok(measured) => Some(measured),
            Err(error) => {
                unless_ending();
                let message = self.programs.message().map(|line| format!(" ({line})"));
                let why = format!("{error:#}{}", message.unwrap_or_default());
                figures.skip(&format!("{}, {}", backend.title(), part.title()), &why);
                None
            }
        }
    }
}
