//! The part of docs/performance.md that `bench block` writes.

use super::load::LOADS;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::BlockOptions;
use crate::table::{Table, number};
use crate::targets;

/// Figures of each load: the end of the name and what people call it.
const OF_LOADS: [(&str, &str); 8] = [
    ("fio_per_s", "fio, requests/s"),
    ("fio_us", "fio, latency, mean, µs"),
    ("per_s", "guest, requests/s"),
    ("us", "guest, latency, mean, µs"),
    ("ratio", "guest, part of fio's requests/s in the same round, median"),
    ("exits_per_request", "guest, exits per request"),
    ("daemon_per_s", "guest on qemu-storage-daemon, requests/s"),
    ("daemon_ratio", "guest on qemu-storage-daemon, part of fio's"),
];

/// The names of all figures of one back end.
pub(super) fn names() -> impl Iterator<Item = String> {
    let of_loads =
        LOADS.iter().flat_map(|load| OF_LOADS.map(|(name, _)| format!("{}_{name}", load.name)));
    of_loads.chain(["exits_per_request".to_owned()])
}

/// The text.
pub(super) fn document(figures: &Figures, options: &BlockOptions) -> String {
    let rows = [
        ("file", format!("{} MiB, past the page cache (O_DIRECT), by io_uring", options.mib)),
        ("rounds", format!("{} of {} s for each reader", options.runs, options.seconds)),
        ("fio", host::version_of("fio", "--version").unwrap_or_else(|| "none".into())),
        (
            "qemu-storage-daemon",
            host::version_of("qemu-storage-daemon", "--version").unwrap_or_else(|| "none".into()),
        ),
        ("command", "`cargo run --release -p bench -- block`".into()),
    ];
    let mut parts = vec![host::describe(&rows).to_string()];
    for load in LOADS {
        let mut table = Table::new(&[load.title, "goal (KVM)", "KVM", "process"]);
        for (name, title) in OF_LOADS {
            let name = format!("{}_{name}", load.name);
            let mut cells = vec![title.to_owned(), targets::bound(&name)];
            cells.extend(
                Backend::ALL.map(|it| number(figures.get(&format!("{name}{}", it.suffix())))),
            );
            table.row(cells);
        }
        parts.push(table.to_string());
    }
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}
