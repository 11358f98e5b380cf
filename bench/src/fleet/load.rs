//! `bench load`: the load alone, on any servers or on the driver's own.

use super::driver::{self, Load, Tally, Target, Targets, Trouble};
use super::local::Local;
use super::measure::describe;
use super::saturation::{Probe, search};
use crate::options::LoadOptions;
use crate::running::unless_ending;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How long each load of the search for the most lasts.
const PROBE: Duration = Duration::from_secs(3);

/// How long servers that did not follow are left alone.
const REST: Duration = Duration::from_secs(2);

/// Asks, and prints what was found.
pub(crate) fn run(options: &LoadOptions) -> Result<()> {
    let (targets, _local) = match &options.targets {
        Some(path) => (read(path)?, None),
        None => {
            let local = Local::start()?;
            (local.targets(options.local), Some(local))
        }
    };
    let targets = Targets::new(targets, options.alpha)?;
    let load = Load {
        warm: Duration::from_secs(options.warm.into()),
        length: Duration::from_secs(options.seconds.into()),
        ..Load::of(options.driver)
    };
    let most = match options.rate {
        Some(_) => None,
        None => Some(search(|rate| probe(&targets, Load { rate, ..load }), || sleep(REST))?),
    };
    let half = most.map_or(1.0, |most| (most.per_s / 2.0).max(1.0));
    let rate = options.rate.map_or(half, f64::from);
    let tally = driver::run(&targets, Load { rate, ..load })?;
    if options.json {
        let mut found = json(&tally, targets.len());
        found["saturation_per_s"] = most.map_or(Value::Null, |most| json!(most.per_s));
        found["limited_by_driver"] = most.map_or(Value::Null, |most| json!(most.by_driver));
        println!("{found}");
        return Ok(());
    }
    if let Some(most) = most {
        let whose = if most.by_driver { ", which is the driver's limit" } else { "" };
        println!("at most {:.0} requests a second{whose}; half of that:", most.per_s);
    }
    println!("{}", describe(&tally));
    Ok(())
}

fn probe(targets: &Targets, load: Load) -> Result<Probe> {
    unless_ending();
    let tally = driver::run(targets, Load { length: PROBE, ..load })?;
    eprintln!("{}", describe(&tally));
    Ok(Probe::of(&tally, load.threads))
}

fn json(tally: &Tally, targets: usize) -> Value {
    let ms = |share| tally.latency_ms(share);
    let errors: serde_json::Map<String, Value> = Trouble::ALL
        .iter()
        .map(|&trouble| (trouble.name().to_owned(), tally.troubles(trouble).into()))
        .collect();
    json!({
        "targets": targets,
        "distinct": tally.distinct(),
        "offered_per_s": tally.offered_per_s(),
        "achieved_per_s": tally.achieved_per_s(),
        "p50_ms": ms(500), "p99_ms": ms(990), "p999_ms": ms(999), "max_ms": ms(1000),
        "errors": errors,
        "reconnects": tally.reconnects,
        "most_out": tally.most_out,
        "late_p99_ms": tally.lateness.percentile(990).map(|ns| ns as f64 / 1e6),
        "client_cpu": tally.processor_share(),
    })
}

/// Whom to ask: in each line an address, and what its page shows.
fn read(path: &Path) -> Result<Vec<Target>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        parse(line).with_context(|| {
            format!(
                "{}, line {}: an address, a port and a text are wanted: 10.96.0.2:80 text",
                path.display(),
                number + 1
            )
        })
    };
    lines.map(parse).collect()
}

fn parse(line: &str) -> Option<Target> {
    let (address, shows) = line.trim().split_once(' ')?;
    let shows = shows.trim();
    (!shows.is_empty()).then_some(())?;
    Some(Target { address: address.parse().ok()?, shows: shows.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_addresses_and_texts() {
        let target = parse("10.96.0.2:80  web 17 ").unwrap();
        assert_eq!(
            (target.address.to_string().as_str(), target.shows.as_str()),
            ("10.96.0.2:80", "web 17")
        );
        assert!(
            ["", "10.96.0.2:80", "10.96.0.2 x", "x:80 y", "10.96.0.2:80  "]
                .iter()
                .all(|it| parse(it).is_none())
        );
    }
}
