//! `bench swap`: guests that leave memory and come back.
//!
//! | file | its job |
//! |---|---|
//! | `wake` | parked guests: from a client's connection to its answer |
//! | `single` | the same one at a time, with the image in the page cache and without |
//! | `out` | the same where the monitors stay |
//! | `variants` | without reading ahead, and without encryption |
//! | `memory` | what a parked guest costs its keeper |
//! | `throughput` | a large guest, beside its disk and the kernel's swap |
//! | `striping` | more disks |
//! | `paging` | less memory than a guest needs |
//! | `subject` | a back end and what it takes to measure it |
//! | `keep`, `seen`, `arrivals`, `visits`, `control` | keepers, what they tell, clients of parked guests, clients, commands |
//! | `big`, `raw`, `kernel` | the large guest, its disk, the kernel's swap of it |
//! | `loops`, `throttle` | slow disks |

mod arrivals;
mod big;
mod cached;
mod control;
mod keep;
mod kernel;
mod loops;
mod memory;
mod out;
mod paging;
mod plots;
mod raw;
mod seen;
mod single;
mod striping;
mod subject;
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
use crate::place::Place;
use crate::programs::Programs;
use crate::running::unless_ending;
use anyhow::{Result, bail};
use memory::Footprint;
use subject::Subject;
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
        let subject = Subject { backend, options, place: &place, programs: &programs };
        let (woken, swapped_out) = measure(subject, &mut figures);
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

/// Measures one back end; gives what plots show. What fails is named, and the rest is measured.
fn measure(subject: Subject<'_>, figures: &mut Figures) -> (Option<Woken>, Option<Latencies>) {
    let Subject { backend, options, .. } = subject;
    let mut part = |part, measure: &mut dyn FnMut(&mut Figures) -> Result<()>| {
        measure_part(part, subject, figures, measure);
    };
    part(SwapPart::Throughput, &mut |figures| throughput::measure(subject, figures));
    part(SwapPart::Striping, &mut |figures| match striping::problem() {
        Some(problem) => bail!(problem),
        None => striping::measure(subject, figures),
    });
    if backend == Backend::Kvm {
        part(SwapPart::Paging, &mut |figures| paging::measure(subject, figures));
    }
    part(SwapPart::Variants, &mut |figures| variants::measure(subject, figures));
    let (mut out, mut parked) = (None, None);
    part(SwapPart::Out, &mut |figures| {
        out::fill(backend, out.insert(out::measure(subject)?), figures);
        Ok(())
    });
    part(SwapPart::Parked, &mut |figures| {
        let woken = parked.insert(Woken::measure(subject)?);
        woken.fill(figures);
        woken.name_what_lacks(options.guests, figures);
        let few = Footprint::of_few(subject)?;
        memory::fill(backend, woken.footprint.bytes_of_each(few), figures);
        Ok(())
    });
    (parked, out)
}

fn measure_part(
    part: SwapPart,
    Subject { backend, options, programs, .. }: Subject<'_>,
    figures: &mut Figures,
    measure: &mut dyn FnMut(&mut Figures) -> Result<()>,
) {
    if !options.only.is_empty() && !options.only.contains(&part) {
        return;
    }
    if let Err(error) = measure(figures) {
        unless_ending();
        let message = programs.message().map(|line| format!(" ({line})"));
        let why = format!("{error:#}{}", message.unwrap_or_default());
        figures.skip(&format!("{}, {}", backend.title(), part.title()), &why);
    }
}
