//! How fast a large guest leaves memory and comes back, beside its disk and the kernel's own swap.

use super::big::Big;
use super::kernel::KernelSwap;
use super::raw::Raw;
use super::subject::Subject;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::summary::Series;
use anyhow::Result;

/// Where the figures are for programs.
pub(super) const GROUP: &str = "swap";

/// Rounds that are not counted: until then the region's slots have all been written once.
const WARM_UP: u32 = 2;

/// The swap file is larger than the guest by this, in MiB.
const SPARE_MIB: u32 = 256;

/// What one round took, in seconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// The disk, and nothing else.
    written: f64,
    read: f64,
    /// The guest looks at its memory, all of which is there.
    warm: f64,
    /// Its memory leaves.
    out: f64,
    /// It looks at its memory, all of which is out.
    woken: f64,
    /// The same of another guest by the kernel's swap.
    kernel: Option<(f64, f64)>,
}

impl Round {
    /// What the guest's leaving is of writing by the disk alone.
    fn out_ratio(&self) -> f64 {
        self.written / self.out
    }

    /// What its coming back is of reading.
    fn in_ratio(&self) -> f64 {
        self.read / (self.woken - self.warm)
    }
}

/// Measures one back end.
pub(super) fn measure(subject: Subject<'_>, figures: &mut Figures) -> Result<()> {
    let Subject { backend, options, place, programs } = subject;
    let title = backend.title();
    eprintln!("{title}: a guest of {} MiB", options.mib);
    let stripe = place.on_disk("stripe")?;
    let start = |name| Big::start(name, (backend, options.mib), &[stripe.path()], place, programs);
    // Before there is a control group from which memory is taken.
    let mut pair = Pair { raw: Raw::new(&[stripe.path()], options.mib)?, guest: start("big")? };
    let kernel = match KernelSwap::problem() {
        None => Some(KernelSwap::new(stripe.path(), options.mib + SPARE_MIB)?),
        Some(problem) => {
            figures.skip("the kernel's swap", &problem);
            None
        }
    };
    let mut other = match &kernel {
        Some(kernel) => Some((kernel, start("other")?)),
        None => None,
    };
    let mut rounds = Vec::new();
    for number in 0..WARM_UP + options.runs {
        let mut round = pair.round()?;
        if let Some((kernel, guest)) = &mut other {
            round.kernel = Some((kernel.page_out(guest)?, kernel.check(guest)?));
        }
        if number >= WARM_UP {
            eprintln!("{title}: round {} of {}", number + 1 - WARM_UP, options.runs);
            rounds.push(round);
        }
    }
    fill(&rounds, pair.guest.bytes(), backend, figures);
    Ok(())
}

/// A disk, and a guest that leaves memory for it.
struct Pair {
    raw: Raw,
    guest: Big,
}

impl Pair {
    fn round(&mut self) -> Result<Round> {
        let (written, read) = (self.raw.write()?, self.raw.read()?);
        let guest = &mut self.guest;
        // The first look finds page tables that are new.
        guest.check()?;
        let warm = guest.check()?;
        let (out, woken) = (guest.swap_out()?, guest.check()?);
        Ok(Round { written, read, warm, out, woken, kernel: None })
    }
}

fn fill(rounds: &[Round], bytes: f64, backend: Backend, figures: &mut Figures) {
    let suffix = backend.suffix();
    let mut set = |name: &str, value: &dyn Fn(&Round) -> Option<f64>| {
        let series: Series = rounds.iter().filter_map(value).collect();
        figures.set(format!("{GROUP}/{name}{suffix}"), series.median());
    };
    let gigabytes = |seconds: f64| bytes / seconds / 1e9;
    set("raw_write_gb_s", &|it| Some(gigabytes(it.written)));
    set("raw_read_gb_s", &|it| Some(gigabytes(it.read)));
    set("out_gb_s", &|it| Some(gigabytes(it.out)));
    set("in_gb_s", &|it| Some(gigabytes(it.woken - it.warm)));
    set("out_raw_ratio", &|it| Some(it.out_ratio()));
    set("in_raw_ratio", &|it| Some(it.in_ratio()));
    set("warm_ms", &|it| Some(it.warm * 1e3));
    set("out_ms", &|it| Some(it.out * 1e3));
    set("wake_ms", &|it| Some(it.woken * 1e3));
    set("kernel_swap_out_ms", &|it| it.kernel.map(|(out, _)| out * 1e3));
    set("kernel_swap_wake_ms", &|it| it.kernel.map(|(_, woken)| woken * 1e3));
    set("kernel_swap_out_ratio", &|it| it.kernel.map(|(out, _)| out / it.out));
    set("kernel_swap_wake_ratio", &|it| it.kernel.map(|(_, woken)| woken / it.woken));
    let ratios = ["out_raw_ratio", "in_raw_ratio"];
    let ratios = ratios.map(|name| figures.get(&format!("{GROUP}/{name}{suffix}")));
    let worse = ratios[0].zip(ratios[1]).map(|(out, back)| out.min(back));
    figures.set(format!("{GROUP}/raw_ratio{suffix}"), worse);
}
