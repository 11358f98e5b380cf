//! Paging within a guest: passes over memory of which a quarter may be resident.

use super::subject::Subject;
use crate::figures::Figures;
use crate::options::SwapOptions;
use crate::programs::Programs;
use crate::running::Running;
use crate::summary::Series;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the figures are for programs.
pub(super) const GROUP: &str = "paging";

/// What names of figures end with, for each way.
pub(super) const FIGURES: [&str; 3] = ["ms", "limited_ms", "factor"];

/// The guest is smaller than others by so much.
const PART: u32 = 4;

/// MiB that the guest has beside what it goes over.
const SPARE_MIB: u32 = 8;

/// Passes of one guest: the first in order, the second with large steps.
const PASSES: u32 = 2;

/// Guests of each kind.
const ROUNDS: usize = 2;

/// How memory is gone over: what names of figures have in them, and what people read.
pub(super) const WAYS: [(&str, &str); 2] =
    [("sequential", "in order"), ("random", "all over the place")];

/// MiB of memory that is gone over.
pub(super) fn mib(options: &SwapOptions) -> u32 {
    options.mib.div_ceil(PART)
}

/// Measures with and without a limit, by turns.
pub(super) fn measure(subject: Subject<'_>, figures: &mut Figures) -> Result<()> {
    let Subject { backend, options, place, programs } = subject;
    let mib = mib(options);
    let stripe = place.on_disk("paging")?;
    let small = place.temporary("paging")?;
    let (mut free, mut limited) = (<[Series; 2]>::default(), <[Series; 2]>::default());
    for number in 1..=ROUNDS {
        eprintln!("{}: paging, round {number} of {ROUNDS}", backend.title());
        for (limit, series) in [(None, &mut free), (Some(mib / 4), &mut limited)] {
            let mut configuration = json!({
                "image": denali_images::PROBE_PATH,
                "args": format!("grow {mib} {PASSES}"),
                "memory": format!("{}MiB", mib + SPARE_MIB),
                "hypervisor": backend.name(),
                "swap": { "stripes": [stripe.path()], "after": 0 },
            });
            if let Some(limit) = limit {
                configuration["resident_limit"] = json!(format!("{limit}MiB"));
            }
            let path = small.path().join("vm.json");
            fs::write(&path, configuration.to_string()).context("cannot write a configuration")?;
            for (pass, micros) in run(&path, programs)?.into_iter().enumerate() {
                series[pass % 2].push(micros / 1e3);
            }
        }
    }
    for (place, (way, _)) in WAYS.iter().enumerate() {
        let (free, limited) = (free[place].median(), limited[place].median());
        let mut set = |name: &str, value| figures.set(format!("{GROUP}/{way}_{name}"), value);
        set("ms", free);
        set("limited_ms", limited);
        set("factor", free.zip(limited).map(|(free, limited)| limited / free));
    }
    Ok(())
}

/// How long each pass took, in µs.
fn run(configuration: &Path, programs: &Programs) -> Result<Vec<f64>> {
    let mut command = Command::new(&programs.denali);
    command.arg("run").arg(configuration).stdin(Stdio::null()).stderr(programs.error_stream()?);
    command.stdout(Stdio::piped());
    let mut running = Running::start(|| command.spawn().context("cannot start denali"))?;
    let mut output = running.take_output().context("a guest without output")?;
    let mut text = String::new();
    output.read_to_string(&mut text).context("cannot read what the guest says")?;
    let status = running.wait()?;
    if !status.success() {
        bail!("the guest probe: {status}: {}", programs.last_message());
    }
    let passes: Vec<f64> = text.lines().filter_map(micros).collect();
    if passes.len() != PASSES as usize {
        bail!("the guest probe says {} passes", passes.len());
    }
    Ok(passes)
}

/// What a line says of a pass: `pass N ok US`.
fn micros(line: &str) -> Option<f64> {
    let mut words = line.strip_prefix("pass ")?.split(' ');
    words.nth(1).filter(|&word| word == "ok")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_say_how_long_they_took() {
        assert_eq!(micros("pass 2 ok 1500"), Some(1500.0));
        assert_eq!(micros("pass 2 bad 1500"), None);
        assert_eq!(micros("grown 2"), None);
    }
}
