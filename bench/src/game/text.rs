//! The part of docs/performance.md that `bench game` writes, and its charts.

use super::{ROUNDS, measure};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::GameOptions;
use crate::plot::{Axis, Chart, Line, Scale};
use crate::precedence::Precedence;
use crate::table::{Table, number};
use crate::targets;
use anyhow::Result;

/// What names of figures have at their end that were measured beside hogs.
pub(super) const BESIDE: &str = "_beside_hogs";
/// The same for what they are a multiple of.
pub(super) const RATIO: &str = "_ratio_beside_hogs";

/// The figures of each measurement, and what people call them.
pub(super) const FIGURES: [(&str, &str); 9] = [
    ("tick_jitter_us_p50", "tick late by, median, µs"),
    ("tick_jitter_us_p99", "99th percentile, µs"),
    ("input_to_snapshot_ms_p50", "input to snapshot, median, ms"),
    ("input_to_snapshot_ms_p99", "99th percentile, ms"),
    ("missed_ticks_percent", "ticks left out, %"),
    ("lost_snapshots_percent", "snapshots that did not come, %"),
    ("lost_bots", "bots that lost their server"),
    ("guests_cpu_percent", "processor, all servers, % of one"),
    ("bots_cpu_percent", "all bots, % of one"),
];

/// Figures of which the multiple beside hogs counts.
pub(super) const RATIOS: [(&str, &str); 2] = [FIGURES[1], FIGURES[3]];

/// The names of all figures of one back end.
pub(super) fn names(options: &GameOptions) -> Vec<String> {
    let counts = options.servers.iter().map(|count| format!("_{count}"));
    let infixes = counts.chain([String::new(), BESIDE.into()]);
    let each = infixes.flat_map(|infix| FIGURES.map(|(name, _)| format!("{name}{infix}")));
    let ratios = RATIOS.iter().map(|(name, _)| format!("{name}{RATIO}"));
    ["servers".to_owned(), format!("servers{BESIDE}")]
        .into_iter()
        .chain(each)
        .chain(ratios)
        .collect()
}

/// The text.
pub(super) fn document(figures: &Figures, options: &GameOptions) -> String {
    let first = "bots have a nice value of -20";
    let priority = if Precedence::is_permitted() { first } else { "none: it takes root" };
    let rows = [
        ("guest", "`game`, 16 MiB, 30 ticks/s".into()),
        ("bots", format!("{} on each server, 30 inputs/s each, one thread", measure::BOTS)),
        ("hogs", "one guest that computes for ever, one that sends datagrams for ever".into()),
        ("pinning", "none".into()),
        ("priority", priority.into()),
        ("time", format!("{} s for each row; beside hogs in {ROUNDS} rounds", options.seconds)),
        ("command", "`cargo run --release -p bench -- game`".into()),
    ];
    let mut parts = vec![host::describe(&rows).to_string()];
    for backend in Backend::ALL {
        if options.common.backends().contains(&backend) {
            parts.push(format!("**{}**\n", backend.title()));
            parts.push(counts(figures, options, backend).to_string());
            parts.push(hogs(figures, options, backend).to_string());
        }
    }
    parts.push(
        "![Tick jitter by the number of servers](plots/game-jitter.svg)\n\n\
         ![Input to snapshot by the number of servers](plots/game-latency.svg)\n"
            .into(),
    );
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

fn counts(figures: &Figures, options: &GameOptions, backend: Backend) -> Table {
    let titles: Vec<&str> = FIGURES.iter().map(|(_, title)| *title).collect();
    let mut table = Table::new(&[&["servers"], &titles[..]].concat());
    for count in &options.servers {
        table.row(row(&count.to_string(), &format!("_{count}"), figures, backend));
    }
    table
}

fn hogs(figures: &Figures, options: &GameOptions, backend: Backend) -> Table {
    let titles: Vec<&str> = FIGURES.iter().map(|(_, title)| *title).collect();
    let mut table = Table::new(&[&["servers"], &titles[..]].concat());
    table.row(row(&format!("{}, alone", options.beside), "", figures, backend));
    table.row(row(&format!("{}, beside hogs", options.beside), BESIDE, figures, backend));
    let multiple = |name: &str| {
        let value = figures.get(&format!("{name}{RATIO}{}", backend.suffix()));
        let bound = targets::bound(&format!("{name}{RATIO}"));
        value.map_or(String::new(), |_| format!("{} (goal {bound})", number(value)))
    };
    let cells = FIGURES.map(|(name, _)| multiple(name));
    table.row(std::iter::once("multiple".to_owned()).chain(cells));
    table
}

fn row(title: &str, infix: &str, figures: &Figures, backend: Backend) -> Vec<String> {
    let value = |(name, _): &(&str, &str)| {
        number(figures.get(&format!("{name}{infix}{}", backend.suffix())))
    };
    std::iter::once(title.to_owned()).chain(FIGURES.iter().map(value)).collect()
}

/// Writes the charts.
pub(super) fn plot(figures: &Figures, options: &GameOptions) -> Result<()> {
    let charts = [
        ("game-jitter", "How late ticks begin", "µs", "tick_jitter_us"),
        (
            "game-latency",
            "From an input to the snapshot that knows it",
            "ms",
            "input_to_snapshot_ms",
        ),
    ];
    for (file, title, unit, figure) in charts {
        let mut lines = Vec::new();
        for backend in options.common.backends() {
            for share in ["p50", "p99"] {
                let value = |count: &u32| {
                    figures.get(&format!("{figure}_{share}_{count}{}", backend.suffix()))
                };
                let points = options.servers.iter();
                let points = points.filter_map(|count| Some((f64::from(*count), value(count)?)));
                let points = points.collect();
                lines.push(Line { name: format!("{}, {share}", backend.title()), points });
            }
        }
        let x = Axis { title: "servers", scale: Scale::Log };
        let y = Axis { title: unit, scale: Scale::Log };
        Chart { title, x, y, lines }.write(file)?;
    }
    Ok(())
}
