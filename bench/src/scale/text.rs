//! The part of docs/performance.md that `bench scale` writes, and its charts.

use super::processors;
use super::variant::{FEW, Variant};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::ScaleOptions;
use crate::plot::{Axis, Chart, Line, Scale};
use crate::table::{Table, number};
use crate::targets;
use anyhow::Result;

/// Figures of each variant: the name and what people call it.
const OF_VARIANTS: [(&str, &str); 7] = [
    ("requests_per_s", "requests/s"),
    ("p50_ms", "latency, median, ms"),
    ("p99_ms", "latency, 99th percentile, ms"),
    ("cpu_percent", "guests and monitors, % of a processor"),
    ("client_cpu_percent", "load, % of a processor"),
    ("exits_per_request", "exits per request"),
    ("broken_connections", "connections that broke"),
];

/// Figures that compare: the name and what people call it.
const COMPARED: [(&str, &str); 3] = [
    ("gain_percent", "requests/s more by batching, %"),
    ("p99_unbatched_ratio", "99th percentile, part of that without batching"),
    ("gain_factor", "where most idle: requests/s by idling, multiple of those of busy waiting"),
];

/// Figures of a back end as a whole.
const OVERALL: [(&str, &str); 2] = [
    ("gain_percent_second", "requests/s more by batching, second best of the counts, %"),
    ("gain_factor", "requests/s by idling, multiple of busy waiting, with most guests"),
];

/// The text.
pub(super) fn document(figures: &Figures, options: &ScaleOptions) -> String {
    let each = format!("one thread, {} connections to each guest, kept alive", options.connections);
    let pinned = if processors::pins() { "load on processor 0, all guests on 1" } else { "none" };
    let rows = [
        ("load", each),
        ("load where most idle", format!("{FEW} requests out at a time, each on any connection")),
        ("pinning", pinned.into()),
        ("rounds", format!("{} of {} s for each variant", options.runs, options.seconds)),
        ("command", "`cargo run --release -p bench -- scale`".into()),
    ];
    let mut parts = vec![host::describe(&rows).to_string(), overall(figures).to_string()];
    for backend in options.common.backends() {
        parts.push(compared(figures, backend, options).to_string());
        parts.push(variants(figures, backend, options).to_string());
    }
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

fn overall(figures: &Figures) -> Table {
    let mut table = Table::new(&["", "goal (KVM)", "KVM", "process"]);
    for (name, title) in OVERALL {
        let mut cells = vec![title.to_owned(), targets::bound(name)];
        cells.extend(figures.of_backends(&[name]));
        table.row(cells);
    }
    table
}

fn compared(figures: &Figures, backend: Backend, options: &ScaleOptions) -> Table {
    let mut table = by_count(backend, options);
    for (name, title) in COMPARED {
        table.row(row(figures, title.to_owned(), name, backend, options));
    }
    table
}

fn variants(figures: &Figures, backend: Backend, options: &ScaleOptions) -> Table {
    let mut table = by_count(backend, options);
    for (name, title) in OF_VARIANTS {
        for variant in Variant::ALL {
            let (name, title) =
                (format!("{name}{}", variant.infix()), format!("{title}, {}", variant.title()));
            table.row(row(figures, title, &name, backend, options));
        }
    }
    table
}

/// A table with a column for each count of guests.
fn by_count(backend: Backend, options: &ScaleOptions) -> Table {
    let mut titles = vec![backend.title().to_owned()];
    titles.extend(options.guests.iter().map(|count| match count {
        1 => "1 guest".to_owned(),
        count => format!("{count} guests"),
    }));
    Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>())
}

fn row(
    figures: &Figures,
    title: String,
    name: &str,
    backend: Backend,
    options: &ScaleOptions,
) -> Vec<String> {
    let values = options.guests.iter().map(|count| format!("{name}_{count}{}", backend.suffix()));
    std::iter::once(title).chain(values.map(|name| number(figures.get(&name)))).collect()
}

/// Writes the charts into docs/plots.
pub(super) fn plot(figures: &Figures, options: &ScaleOptions) -> Result<()> {
    let throughput = "HTTP requests of all guests together";
    chart(figures, options, "requests_per_s", throughput, "requests/s")
        .write("scale-throughput")?;
    let latency = "HTTP latency, 99th percentile";
    chart(figures, options, "p99_ms", latency, "ms").write("scale-p99")
}

fn chart<'a>(
    figures: &Figures,
    options: &ScaleOptions,
    figure: &str,
    title: &'a str,
    unit: &'a str,
) -> Chart<'a> {
    let mut lines = Vec::new();
    for backend in options.common.backends() {
        for variant in Variant::ALL {
            let point = |&count: &u32| {
                let name = format!("{figure}{}_{count}{}", variant.infix(), backend.suffix());
                Some((f64::from(count), figures.get(&name)?))
            };
            let points = options.guests.iter().filter_map(point).collect();
            let name = format!("{}, {}", backend.title(), variant.title());
            lines.push(Line { name, points });
        }
    }
    let (x, y) =
        (Axis { title: "guests", scale: Scale::Log }, Axis { title: unit, scale: Scale::Log });
    Chart { title, x, y, lines }
}
