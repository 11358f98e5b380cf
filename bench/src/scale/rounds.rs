//! The measurement: in each round every variant once, so that what disturbs the machine disturbs all.

use super::load::Load;
use super::processors;
use super::servers::{Counted, Servers};
use super::variant::Variant;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::options::ScaleOptions;
use crate::programs::Programs;
use crate::summary::Series;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How long all answer before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one variant did in one round.
#[derive(Clone, Copy, Debug)]
struct Measured {
    requests_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the guests' processor, by all monitors and guests.
    cpu_percent: f64,
    /// Of the load's processor.
    client_cpu_percent: f64,
    exits_per_request: f64,
    batches_per_request: f64,
    broken: f64,
}

/// What each variant did, one value a round.
pub(super) struct Rounds {
    count: usize,
    of_variants: [Vec<Measured>; 4],
}

/// The figures of each variant: the beginning of the name, and the value.
type Figure = (&'static str, fn(&Measured) -> f64);
const FIGURES: [Figure; 8] = [
    ("requests_per_s", |it| it.requests_per_s),
    ("p50_ms", |it| it.p50_ms),
    ("p99_ms", |it| it.p99_ms),
    ("cpu_percent", |it| it.cpu_percent),
    ("client_cpu_percent", |it| it.client_cpu_percent),
    ("exits_per_request", |it| it.exits_per_request),
    ("batches_per_request", |it| it.batches_per_request),
    ("broken_connections", |it| it.broken),
];

impl Rounds {
    /// Measures all variants of `count` guests.
    pub(super) fn measure(
        backend: Backend,
        count: usize,
        options: &ScaleOptions,
        programs: &Programs,
    ) -> Result<Self> {
        let mut of_variants: [Vec<Measured>; 4] = Default::default();
        for number in 1..=options.runs {
            eprintln!("{}, {count} guests: round {number} of {}", backend.title(), options.runs);
            for (results, variant) in of_variants.iter_mut().zip(Variant::ALL) {
                let servers = Servers::start((backend, variant), count, programs);
                let measured = servers.and_then(|servers| once(&servers, options, variant));
                let what = || format!("{}: {}", variant.title(), programs.last_message());
                let measured = measured.with_context(what)?;
                eprintln!("  {}: {:.0} requests/s", variant.title(), measured.requests_per_s);
                results.push(measured);
            }
        }
        Ok(Self { count, of_variants })
    }

    /// Sets the figures.
    pub(super) fn fill(&self, backend: Backend, figures: &mut Figures) {
        let end = format!("_{}{}", self.count, backend.suffix());
        for (results, variant) in self.of_variants.iter().zip(Variant::ALL) {
            for (name, value) in FIGURES {
                let median = results.iter().map(value).collect::<Series>().median();
                figures.set(format!("{name}{}{end}", variant.infix()), median);
            }
        }
        let [usual, unbatched, sparse, busy] = &self.of_variants;
        let throughput = |it: &Measured| it.requests_per_s;
        let gain = relative(usual, unbatched, throughput).median();
        figures.set(format!("gain_percent{end}"), gain.map(|gain| 100.0 * (gain - 1.0)));
        figures.set(format!("gain_factor{end}"), relative(sparse, busy, throughput).median());
        let p99 = relative(usual, unbatched, |it| it.p99_ms).median();
        figures.set(format!("p99_unbatched_ratio{end}"), p99);
    }
}

/// A figure of one variant relative to another's in the same round.
fn relative(one: &[Measured], other: &[Measured], part: fn(&Measured) -> f64) -> Series {
    one.iter().zip(other).map(|(one, other)| part(one) / part(other)).collect()
}

fn once(servers: &Servers<'_>, options: &ScaleOptions, variant: Variant) -> Result<Measured> {
    let own = std::process::id().cast_signed();
    let mut load =
        Load::connect(servers.addresses(), options.connections as usize, variant.most_requests())?;
    load.warm_up(WARM_UP)?;
    let counted = servers.counted()?;
    let (guests, client) = (servers.processor_seconds()?, processors::used_seconds(own)?);
    let start = Instant::now();
    let answers = load.run(Duration::from_secs(options.seconds.into()))?;
    let seconds = start.elapsed().as_secs_f64();
    let guests = servers.processor_seconds()? - guests;
    let client = processors::used_seconds(own)? - client;
    // The load's last requests are out still; they disturb nothing that counts.
    let per_request = per_request(counted, servers.counted()?);
    let percentile =
        |percent| answers.latencies.percentile_ms(percent).context("nothing was answered");
    Ok(Measured {
        requests_per_s: answers.per_s,
        p50_ms: percentile(50.0)?,
        p99_ms: percentile(99.0)?,
        cpu_percent: 100.0 * guests / seconds,
        client_cpu_percent: 100.0 * client / seconds,
        exits_per_request: per_request.0,
        batches_per_request: per_request.1,
        broken: answers.broken as f64,
    })
}

/// Exits and batches of interrupts for each request between two counts of a guest.
fn per_request(before: Counted, after: Counted) -> (f64, f64) {
    let requests = (after.requests - before.requests).max(1.0);
    ((after.exits - before.exits) / requests, (after.batches - before.batches) / requests)
}

/// The names of all figures for `count` guests, without the back end's suffix.
pub(super) fn names(count: usize) -> Vec<String> {
    let of_variant =
        |variant: Variant| FIGURES.map(|(name, _)| format!("{name}{}_{count}", variant.infix()));
    let mut names: Vec<String> = Variant::ALL.into_iter().flat_map(of_variant).collect();
    let compared = ["gain_percent", "gain_factor", "p99_unbatched_ratio"];
    names.extend(compared.map(|name| format!("{name}_{count}")));
    names
}
