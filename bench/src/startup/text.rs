//! The part of docs/performance.md that `bench startup` writes.

use crate::backend::Backend;
use crate::figures::Figures;
use crate::guest::Way;
use crate::host;
use crate::options::StartupOptions;
use crate::table::{Table, number};
use crate::targets;
use std::fmt::Write;

/// Times, without the unit: the name of the figure and what people call it.
const TIMES: [(&str, &str); 10] = [
    ("first_byte", "`denali run` to the first byte, 16 MiB"),
    ("first_byte_128mib", "`denali run` to the first byte, 128 MiB"),
    ("first_byte_exec", "exec of `denali-vmm` to the first byte, 16 MiB"),
    ("first_byte_exec_128mib", "exec of `denali-vmm` to the first byte, 128 MiB"),
    ("first_http", "`denali run` to the first HTTP response"),
    ("first_http_exec", "exec of `denali-vmm` to the first HTTP response"),
    ("exit", "last byte to the end of the process, 16 MiB"),
    ("exit_128mib", "last byte to the end of the process, 128 MiB"),
    ("exit_exec", "the same, started by exec of `denali-vmm`, 16 MiB"),
    ("exit_exec_128mib", "the same, started by exec of `denali-vmm`, 128 MiB"),
];

/// What an idle guest costs, of each way to start it: how the figure's name begins and ends, and what
/// people call it.
const COSTS: [(&str, &str, &str); 6] = [
    ("monitor_pss", "_kib", "PSS of the monitor apart from guest RAM, KiB"),
    ("total_per_guest", "_kib", "everything, the kernel's memory included, KiB"),
    ("cgroup_per_guest", "_kib", "the same by the memory control group, KiB"),
    ("cgroup_kernel_per_guest", "_kib", "the kernel's part thereof, KiB"),
    ("threads", "", "threads of the monitor, apart from KVM's own"),
    ("idle_switches", "_per_10s", "context switches in 10 s, the most of any"),
];

/// The names of all figures of one back end.
pub(super) fn names() -> impl Iterator<Item = String> {
    let statistics = ["", "_min", "_p90"];
    let times = TIMES
        .iter()
        .flat_map(move |(name, _)| statistics.map(|statistic| format!("{name}{statistic}_ms")));
    let costs = COSTS.iter().flat_map(|(start, end, _)| {
        Way::ALL.map(|way| format!("{start}{}{end}", way.idle_infix()))
    });
    times.chain(costs)
}

/// The text.
pub(super) fn document(figures: &Figures, options: &StartupOptions) -> String {
    let count = options.guests;
    let rows = [
        ("starts of each kind", options.runs.to_string()),
        ("guests", format!("{}, {} and {count}", count.div_ceil(4), count.div_ceil(2))),
        ("command", "`cargo run --release -p bench -- startup`".into()),
    ];
    let mut text = host::describe(&rows).to_string();
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{}\n{}", times(figures), costs(figures));
    let binary = (number(figures.get("binary_kib")), targets::bound("binary_kib"));
    let _ = writeln!(text, "\n`denali-vmm`, stripped: {} KiB (goal {}).", binary.0, binary.1);
    for line in figures.skipped() {
        let _ = write!(text, "\nNot measured: {line}.");
    }
    text
}

fn times(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "time, ms",
        "goal",
        "KVM: median",
        "min … p90",
        "process: median",
        "min … p90",
    ]);
    for (name, title) in TIMES {
        let mut cells = vec![title.to_owned(), targets::bound(&format!("{name}_ms"))];
        for backend in Backend::ALL {
            let value = |statistic| {
                number(figures.get(&format!("{name}{statistic}_ms{}", backend.suffix())))
            };
            cells.push(value(""));
            cells.push(format!("{} … {}", value("_min"), value("_p90")));
        }
        table.row(cells);
    }
    table
}

fn costs(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "an idle guest",
        "goal",
        "KVM, `denali run`",
        "KVM, `denali-vmm`",
        "process, `denali run`",
        "process, `denali-vmm`",
    ]);
    for (start, end, title) in COSTS {
        let mut cells = vec![title.to_owned(), targets::bound(&format!("{start}{end}"))];
        for backend in Backend::ALL {
            let name = |way: Way| format!("{start}{}{end}{}", way.idle_infix(), backend.suffix());
            cells.extend(Way::ALL.map(|way| number(figures.get(&name(way)))));
        }
        table.row(cells);
    }
    table
}
