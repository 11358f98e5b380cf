//! A thousand guests that idle: how often they run though nothing happens, and what a timer costs.

use super::guests::{Guests, Kind};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::CrowdOptions;
use crate::proc;
use crate::programs::Programs;
use anyhow::Result;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the guests are left alone before they are looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// The figures, without the back end's suffix, and what people call them.
pub(super) const FIGURES: [(&str, &str); 4] = [
    ("switches_no_timers", "no timers: context switches of all of them in 10 s"),
    ("cpu_percent_no_timers", "no timers: processor time of all of them, % of one"),
    ("switches_1hz", "a timer each second: context switches of all of them in 10 s"),
    ("cpu_percent_1hz", "a timer each second: processor time of all of them, % of one"),
];

/// Measures both crowds, one after the other.
pub(super) fn measure(
    backend: Backend,
    options: CrowdOptions,
    programs: &Programs,
    figures: &mut Figures,
) -> Result<()> {
    let kinds = [("no_timers", Kind::web()), ("1hz", Kind::probe("tick 1000", None))];
    for (name, kind) in kinds {
        eprintln!("{}: {} idle guests, {name}", backend.title(), options.guests);
        let guests = Guests::start(kind, backend, options.guests as usize, programs)?;
        sleep(SETTLE);
        let mut processes = guests.pids();
        processes.extend(proc::children_of(&processes)?);
        let watched = Watched::of(&processes, Duration::from_secs(options.seconds.into()))?;
        let suffix = backend.suffix();
        figures.set(format!("switches_{name}{suffix}"), Some(watched.switches_per_10s));
        figures.set(format!("cpu_percent_{name}{suffix}"), Some(watched.processor_percent));
    }
    Ok(())
}

/// What processes did together while they were watched.
#[derive(Clone, Copy, Debug)]
struct Watched {
    switches_per_10s: f64,
    processor_percent: f64,
}

impl Watched {
    fn of(processes: &[i32], time: Duration) -> Result<Self> {
        let (before, start) = (sums(processes)?, Instant::now());
        sleep(time);
        let elapsed = start.elapsed().as_secs_f64();
        let after = sums(processes)?;
        Ok(Self {
            switches_per_10s: ((after.0 - before.0) * 10.0 / elapsed).round(),
            processor_percent: 100.0 * (after.1 - before.1) / elapsed,
        })
    }
}

/// Context switches of processes so far, and their processor time in seconds.
fn sums(processes: &[i32]) -> Result<(f64, f64)> {
    let mut sums = (0.0, 0.0);
    for &pid in processes {
        sums.0 += proc::context_switches(pid)?;
        sums.1 += proc::precise_processor_seconds(pid)?;
    }
    Ok(sums)
}
