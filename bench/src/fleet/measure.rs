//! What is measured of a fleet, in which order.

use super::driver::{self, Load, Tally, Target, Targets};
use super::guests::Fleet;
use super::saturation::{Probe, Saturation, search};
use super::text::of_load;
use crate::figures::Figures;
use crate::options::{DriverOptions, FleetOptions};
use crate::running::unless_ending;
use crate::settled::settled_kib;
use anyhow::{Context, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The exponent at which few guests and many are compared.
pub(super) const COMPARED: f64 = 0.8;

/// The part of the most that a fleet can take at which latency is measured.
const PART: f64 = 0.5;

/// How long things take, and how memory is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// How long each load of the search for the most lasts.
    pub(super) probe: Duration,
    /// How long requests come before any is counted.
    pub(super) warm: Duration,
    /// How long a fleet that did not follow is left alone.
    pub(super) rest: Duration,
    /// How long a load lasts by which latency is measured.
    pub(super) length: Duration,
    /// Memory of the host in use, in KiB.
    pub(super) memory: fn() -> Result<f64>,
}

impl Course {
    /// As it is usually done.
    pub(super) fn of(options: &FleetOptions) -> Self {
        Self {
            probe: Duration::from_secs(5),
            warm: Duration::from_secs(2),
            rest: Duration::from_secs(3),
            length: Duration::from_secs(options.seconds.into()),
            memory: settled_kib,
        }
    }
}

/// Requests a second while all guests are looked for, and how long each may take.
const SWEEP_RATE: f64 = 2000.0;
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long guests that do not answer are asked again and again.
const SWEEP_PATIENCE: Duration = Duration::from_secs(600);

/// Measures a fleet that `make` makes, of so many guests, of which so many may be in memory.
pub(super) fn measure<F: Fleet>(
    mut make: impl FnMut(u32, u32) -> Result<F>,
    options: &FleetOptions,
    course: Course,
    figures: &mut Figures,
) -> Result<()> {
    let few = options.few.min(options.count());
    let alone = if few > 0 { Some(most_of_few(&mut make, few, options, course)?) } else { None };
    let before = (course.memory)()?;
    let begun = Instant::now();
    let mut fleet = make(options.count(), options.awake())?;
    let targets = fleet.start_all()?;
    let answered = sweep(&targets, options.driver, SWEEP_PATIENCE)?;
    figures.set("start_all_s", (answered == targets.len()).then(|| begun.elapsed().as_secs_f64()));
    figures.set("answered", Some(answered as f64));
    eprintln!(
        "{answered} of {} guests answer, after {:.1} s",
        targets.len(),
        begun.elapsed().as_secs_f64()
    );
    weigh(&mut fleet, (course.memory)()? - before, figures)?;
    for &alpha in &options.alpha {
        let most = most(&targets, alpha, options, course)?;
        if alpha == COMPARED {
            let ratio =
                alone.filter(|alone| alone.per_s > 0.0).map(|alone| most.per_s / alone.per_s);
            figures.set("throughput_ratio_to_100", ratio);
        }
        let measured = at_part(&mut fleet, &targets, alpha, most, options, course)?;
        measured.fill(&of_load(options, alpha), figures);
    }
    let answered = sweep(&targets, options.driver, SWEEP_PATIENCE)?;
    figures.set("answered_after", Some(answered as f64));
    figures.set("throughput_few_per_s", alone.map(|alone| alone.per_s));
    Ok(())
}

/// The most that few guests can take.
fn most_of_few<F: Fleet>(
    make: &mut impl FnMut(u32, u32) -> Result<F>,
    few: u32,
    options: &FleetOptions,
    course: Course,
) -> Result<Saturation> {
    let mut fleet = make(few, few)?;
    let targets = fleet.start_all()?;
    let answered = sweep(&targets, options.driver, SWEEP_PATIENCE)?;
    eprintln!("{answered} of {few} guests answer");
    most(&targets, COMPARED, options, course).with_context(|| format!("with {few} guests"))
}

/// What the fleet takes of the host's memory, by what is in use beside what was, and by its processes.
fn weigh(fleet: &mut impl Fleet, whole: f64, figures: &mut Figures) -> Result<()> {
    let awake = fleet.awake()?.max(1) as f64;
    figures.set("awake", Some(awake));
    figures.set("host_kib_per_guest", Some(whole / awake));
    figures.set("process_kib_per_guest", Some(fleet.processes_kib()? / awake));
    Ok(())
}

/// Asks every guest, and those again that have not answered, until all have or this time is over; how many have.
pub(super) fn sweep(
    targets: &[Target],
    driver: DriverOptions,
    patience: Duration,
) -> Result<usize> {
    let deadline = Instant::now() + patience;
    let mut silent = targets.to_vec();
    while !silent.is_empty() {
        unless_ending();
        let asked = Targets::in_turn(silent);
        let load = Load {
            rate: SWEEP_RATE,
            timeout: SWEEP_TIMEOUT,
            keep_alive: false,
            threads: 1,
            ..Load::of(driver)
        };
        let tally = super::driver::run(&asked, load)?;
        silent = asked.silent(&tally);
        if Instant::now() > deadline {
            break;
        }
    }
    Ok(targets.len() - silent.len())
}

/// The most that these guests can take.
fn most(
    targets: &[Target],
    alpha: f64,
    options: &FleetOptions,
    course: Course,
) -> Result<Saturation> {
    let targets = Targets::new(targets.to_vec(), alpha)?;
    let probe = |rate| {
        unless_ending();
        let load =
            Load { rate, warm: course.warm, length: course.probe, ..Load::of(options.driver) };
        let tally = driver::run(&targets, load)?;
        let probe = Probe::of(&tally, load.threads);
        eprintln!("α = {alpha}: {}", describe(&tally));
        Ok(probe)
    };
    search(probe, || sleep(course.rest))
}

/// What was measured at a part of the most.
struct Measured {
    most: Saturation,
    tally: Tally,
    wakes: u64,
}

fn at_part(
    fleet: &mut impl Fleet,
    targets: &[Target],
    alpha: f64,
    most: Saturation,
    options: &FleetOptions,
    course: Course,
) -> Result<Measured> {
    sleep(course.rest);
    let targets = Targets::new(targets.to_vec(), alpha)?;
    let load = Load {
        rate: (most.per_s * PART).max(1.0),
        length: course.length,
        warm: course.warm,
        ..Load::of(options.driver)
    };
    let before = fleet.wakes()?;
    let tally = driver::run(&targets, load)?;
    let wakes = fleet.wakes()?.saturating_sub(before);
    eprintln!("α = {alpha}, half of the most: {}", describe(&tally));
    Ok(Measured { most, tally, wakes })
}

impl Measured {
    fn fill(&self, name: &dyn Fn(&str) -> String, figures: &mut Figures) {
        let tally = &self.tally;
        let mut set = |what: &str, value| figures.set(name(what), value);
        set("saturation_per_s", Some(self.most.per_s));
        set("limited_by_driver", Some(f64::from(u8::from(self.most.by_driver))));
        set("offered_per_s", Some(tally.offered_per_s()));
        set("achieved_per_s", Some(tally.achieved_per_s()));
        for (what, share) in [("p50_ms", 500), ("p99_ms", 990), ("p999_ms", 999), ("max_ms", 1000)]
        {
            set(what, tally.latency_ms(share));
        }
        set("wakes_per_s", Some(self.wakes as f64 / tally.ran.as_secs_f64().max(1e-9)));
        set("distinct", Some(tally.distinct() as f64));
        set("errors", Some(tally.failed() as f64));
        for trouble in driver::Trouble::ALL {
            set(&format!("errors_{}", trouble.name()), Some(tally.troubles(trouble) as f64));
        }
        set("late_p99_ms", tally.lateness.percentile(990).map(|ns| ns as f64 / 1e6));
        set("client_cpu", Some(tally.processor_share()));
    }
}

/// A load in a line.
pub(super) fn describe(tally: &Tally) -> String {
    let ms = |share| tally.latency_ms(share).map_or("–".into(), |ms| format!("{ms:.2}"));
    let troubles = tally.describe_troubles();
    let failed =
        if troubles.is_empty() { "no errors".to_owned() } else { format!("errors: {troubles}") };
    format!(
        "{:.0} requests a second, {:.0} answered; p50 {} p99 {} p99.9 {} max {} ms; {} guests; {failed}; driver {:.0} % of a \
         processor, at most {} out",
        tally.offered_per_s(),
        tally.achieved_per_s(),
        ms(500),
        ms(990),
        ms(999),
        ms(1000),
        tally.distinct(),
        tally.processor_share() * 100.0,
        tally.most_out
    )
}

#[cfg(test)]
mod tests;
