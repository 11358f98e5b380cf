//! The part of docs/performance.md that `bench net` writes.

use super::server::MEMORY_MIB;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::NetOptions;
use crate::table::{Table, number};
use crate::targets;

/// Figures of server and guest alike: the end of the name after `guest` or `native`, a title, and what
/// comes before.
const OF_BOTH: [(&str, &str, &str); 9] = [
    ("tcp_", "_mbit_s", "to the server, Mbit/s"),
    ("tcp_", "_mbit_s_reverse", "from the server, Mbit/s"),
    ("tcp_", "_mbit_s_10g", "to the server, 10 Gb/s link, Mbit/s"),
    ("tcp_", "_mbit_s_reverse_10g", "from the server, 10 Gb/s link, Mbit/s"),
    ("", "_cpu_ns_per_kib", "processor time of the machine, to the server, ns/KiB"),
    ("", "_cpu_ns_per_kib_reverse", "the same, from the server"),
    ("", "_cpu_ns_per_kib_10g", "the same, to the server, 10 Gb/s link"),
    ("", "_cpu_ns_per_kib_reverse_10g", "the same, from the server, 10 Gb/s link"),
    ("", "_p50_us", "a GET and its answer, one at a time, median, µs"),
];

/// Figures of guests alone.
const OF_GUESTS: [(&str, &str); 14] = [
    ("ratio_10g", "10 Gb/s link, part of native's, the worse direction"),
    ("ratio_to_10g", "the same, to the guest"),
    ("ratio_reverse_10g", "the same, from the guest"),
    ("ratio_unshaped", "unshaped, part of native's, the worse direction"),
    ("ratio_to_unshaped", "the same, to the guest"),
    ("ratio_reverse_unshaped", "the same, from the guest"),
    ("packets_per_exit", "packets of data per exit, to the guest"),
    ("packets_per_exit_reverse", "the same, from the guest"),
    ("packets_per_exit_10g", "the same, to the guest, 10 Gb/s link"),
    ("packets_per_exit_reverse_10g", "the same, from the guest, 10 Gb/s link"),
    ("segments_per_exit", "large segments per exit, to the guest"),
    ("segments_per_exit_reverse", "the same, from the guest"),
    ("segments_per_exit_10g", "the same, to the guest, 10 Gb/s link"),
    ("segments_per_exit_reverse_10g", "the same, from the guest, 10 Gb/s link"),
];

/// The names of all figures of one back end.
pub(super) fn names() -> impl Iterator<Item = String> {
    let both = ["guest", "native"]
        .into_iter()
        .flat_map(|who| OF_BOTH.map(|(start, end, _)| format!("{start}{who}{end}")));
    both.chain(OF_GUESTS.iter().map(|(name, _)| (*name).to_owned()))
}

/// The text.
pub(super) fn document(figures: &Figures, options: &NetOptions) -> String {
    let rows = [
        (
            "load",
            "iperf3, one connection, cubic on both sides of native, on the host's of the guest's"
                .into(),
        ),
        ("guest", format!("`iperf`, {MEMORY_MIB} MiB, MTU 1500")),
        ("shaped link", "veth with tbf of 10 Gb/s each way, then a bridge, for both".into()),
        (
            "rounds",
            format!("{} of {} s for each server and direction", options.runs, options.seconds),
        ),
        ("iperf3", host::version_of("iperf3", "-v").unwrap_or_else(|| "none".into())),
        ("command", "`cargo run --release -p bench -- net`".into()),
    ];
    let tables = [host::describe(&rows), servers(figures), guests(figures)];
    let mut parts: Vec<String> = tables.iter().map(Table::to_string).collect();
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

fn servers(figures: &Figures) -> Table {
    let mut table = Table::new(&["", "guest, KVM", "guest, process", "native"]);
    for (start, end, title) in OF_BOTH {
        let of = |who: &str, suffix: &str| figures.get(&format!("{start}{who}{end}{suffix}"));
        let native = of("native", "").or_else(|| of("native", Backend::Process.suffix()));
        let guests = Backend::ALL.map(|it| of("guest", it.suffix()));
        let cells = [guests[0], guests[1], native].map(number);
        table.row(std::iter::once(title.to_owned()).chain(cells));
    }
    table
}

fn guests(figures: &Figures) -> Table {
    let mut table = Table::new(&["guests", "goal (KVM)", "KVM", "process"]);
    for (name, title) in OF_GUESTS {
        let mut cells = vec![title.to_owned(), targets::bound(name)];
        cells.extend(Backend::ALL.map(|it| number(figures.get(&format!("{name}{}", it.suffix())))));
        table.row(cells);
    }
    table
}
