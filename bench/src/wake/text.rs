//! The parts of docs/performance.md that `bench wake` and `bench idle` write.

use super::computing::{self, WINDOWS};
use super::{crowd, timers};
use crate::figures::Figures;
use crate::host;
use crate::latencies::SHARES;
use crate::options::{CrowdOptions, WakeOptions};
use crate::table::{Table, number};
use crate::targets;

/// Latencies of guests: how the figure's name begins, what people call it, and how the name of the native
/// server's begins.
const WOKEN: [(&str, &str, &str); 2] = [
    ("event_to_guest_us", "to the first instruction", "native_event_to_server_us"),
    ("event_to_reply_us", "to the reply", "native_event_to_reply_us"),
];

/// What people call shares.
const TITLES: [&str; 3] = ["median", "99th percentile", "99.9th percentile"];

/// The names of all figures of `bench wake`, without the back end's suffix.
pub(super) fn wake_names() -> Vec<String> {
    let mut names = Vec::new();
    for (name, ..) in WOKEN {
        names.extend(SHARES.map(|(_, share)| format!("{name}_{share}")));
    }
    for (_, infix, _) in WINDOWS {
        names.extend(computing::shares().map(|(_, share)| computing::name(infix, share)));
    }
    names.extend(timers::names());
    names
}

/// The same of `bench idle`.
pub(super) fn idle_names() -> Vec<String> {
    crowd::FIGURES.map(|(name, _)| name.to_owned()).to_vec()
}

/// The part about waking.
pub(super) fn wake(figures: &Figures, options: &WakeOptions) -> String {
    let pinned = if super::guests::pins() { "client on processor 0, servers on 1" } else { "none" };
    let rows = [
        ("rounds", format!("{} of {} events for each server", options.runs, options.events)),
        ("pinning", pinned.into()),
        ("command", "`cargo run --release -p bench -- wake`".into()),
    ];
    let tables = [host::describe(&rows), woken(figures), computed(figures), timers::table(figures)];
    let mut parts: Vec<String> = tables.iter().map(Table::to_string).collect();
    parts.push("![From an event to a guest that idles](plots/wake-idle.svg)\n".into());
    parts.push("![From an event to a guest that computes](plots/wake-computing.svg)\n".into());
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

fn woken(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "a guest that idles: from an event, µs",
        "goal (KVM)",
        "KVM",
        "process",
        "native",
    ]);
    for (name, title, native) in WOKEN {
        for ((_, share), called) in SHARES.into_iter().zip(TITLES) {
            let name = format!("{name}_{share}");
            let native = figures.get(&format!("{native}_{share}"));
            let mut cells = vec![format!("{title}, {called}"), targets::bound(&name)];
            cells.extend(figures.of_backends(&[&name]));
            cells.push(number(native));
            table.row(cells);
        }
    }
    table
}

fn computed(figures: &Figures) -> Table {
    let title = "a guest that computes: from an event to its program, µs";
    let mut table = Table::of_backends(&[title], &["median", "99 %", "max"]);
    for (_, infix, title) in WINDOWS {
        let mut cells = vec![format!("window {title}")];
        cells.extend(
            figures.of_backends(&["p50", "p99", "max"].map(|it| computing::name(infix, it))),
        );
        table.row(cells);
    }
    table
}

/// The part about idling.
pub(super) fn idle(figures: &Figures, crowd: CrowdOptions) -> String {
    let rows = [
        ("guests", crowd.guests.to_string()),
        ("watched for", format!("{} s", crowd.seconds)),
        ("command", "`cargo run --release -p bench -- idle`".into()),
    ];
    let mut table = Table::new(&["guests that idle", "goal", "KVM", "process"]);
    for (name, title) in crowd::FIGURES {
        let mut cells = vec![title.to_owned(), targets::bound(name)];
        cells.extend(figures.of_backends(&[name]));
        table.row(cells);
    }
    let mut parts = vec![host::describe(&rows).to_string(), table.to_string()];
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}
