//! The part of docs/performance.md that `bench http` writes.

use super::load;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::HttpOptions;
use crate::table::{Table, number};
use crate::targets;

/// Figures of each server: the end of the name and what people call it.
const OF_SERVERS: [(&str, &str); 4] = [
    ("_requests_per_s", "requests/s"),
    ("_p50_ms", "latency, median, ms"),
    ("_p99_ms", "latency, 99th percentile, ms"),
    ("_cpu_percent", "processor, % of one"),
];

/// Figures of nginx.
pub(super) const NGINX: [(&str, &str); 4] = [
    ("nginx_requests_per_s", ""),
    ("nginx_p50_ms", ""),
    ("nginx_p99_ms", ""),
    ("nginx_cpu_percent", ""),
];

/// Figures of guests alone.
const OF_GUESTS: [(&str, &str); 5] = [
    ("ratio", "requests/s, part of native's in the same round, median"),
    ("ratio_min", "the same, min"),
    ("ratio_p90", "the same, p90"),
    ("p99_ratio", "99th percentile, multiple of native's"),
    ("exits_per_request", "exits per request"),
];

/// The names of all figures of one back end.
pub(super) fn names() -> impl Iterator<Item = String> {
    let servers = ["guest", "native"]
        .into_iter()
        .flat_map(|server| OF_SERVERS.map(|(name, _)| format!("{server}{name}")));
    servers.chain(OF_GUESTS.iter().map(|(name, _)| (*name).to_owned()))
}

/// The text.
pub(super) fn document(figures: &Figures, options: &HttpOptions) -> String {
    let load = format!("wrk, 1 thread, {} connections, kept alive", load::CONNECTIONS);
    let pinned = if load::pins() { "load on processor 0, server on 1" } else { "none" };
    let rows = [
        ("load", load),
        ("pinning", pinned.into()),
        ("rounds", format!("{} of {} s for each server", options.runs, options.seconds)),
        ("wrk", host::version_of("wrk", "-v").unwrap_or_else(|| "none".into())),
        ("nginx", host::version_of("nginx", "-v").unwrap_or_else(|| "none".into())),
        ("command", "`cargo run --release -p bench -- http`".into()),
    ];
    let tables = [host::describe(&rows), servers(figures), guests(figures)];
    let mut parts: Vec<String> = tables.iter().map(Table::to_string).collect();
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

fn servers(figures: &Figures) -> Table {
    let mut table = Table::new(&["", "guest, KVM", "guest, process", "native", "nginx"]);
    for (name, title) in OF_SERVERS {
        // The native server ran beside whichever back ends were measured.
        let native = figures.get(&format!("native{name}"));
        let native = native.or_else(|| figures.get(&format!("native{name}_process")));
        let guests = Backend::ALL.map(|it| figures.get(&format!("guest{name}{}", it.suffix())));
        let values = [guests[0], guests[1], native, figures.get(&format!("nginx{name}"))];
        table.row(std::iter::once(title.to_owned()).chain(values.map(number)));
    }
    table
}

fn guests(figures: &Figures) -> Table {
    let mut table = Table::new(&["beside the native server", "goal (KVM)", "KVM", "process"]);
    for (name, title) in OF_GUESTS {
        let mut cells = vec![title.to_owned(), targets::bound(name)];
        cells.extend(Backend::ALL.map(|it| number(figures.get(&format!("{name}{}", it.suffix())))));
        table.row(cells);
    }
    table
}
