//! The part of docs/performance.md that `bench swap` writes.

use super::variants::Variant;
use super::wake::{RATES, SHARES, name_at};
use super::{out, paging, striping};
use crate::backend::Backend;
use crate::figures::Figures;
use crate::host;
use crate::options::SwapOptions;
use crate::precedence::Precedence;
use crate::table::{Table, number};
use crate::targets;

/// Figures of the large guest, and what people call them.
const BIG: [(&str, &str); 13] = [
    ("big_disk_write_gb_per_s", "the disk alone, written, GB/s"),
    ("big_out_gb_per_s", "the guest leaves, GB/s"),
    ("big_out_ratio", "part of what the disk writes"),
    ("big_disk_read_gb_per_s", "the disk alone, read, GB/s"),
    ("big_wake_gb_per_s", "the guest comes back, GB/s"),
    ("big_wake_ratio", "part of what the disk reads"),
    ("big_warm_ms", "it looks at its memory, all of it there, ms"),
    ("big_out_ms", "its memory leaves, ms"),
    ("big_wake_ms", "it looks at its memory, all of it out, ms"),
    ("big_kernel_out_ms", "the kernel's swap: its memory leaves, ms"),
    ("big_kernel_wake_ms", "the kernel's swap: it looks at its memory, ms"),
    ("big_kernel_out_factor", "the kernel's swap takes, to leave, times as long"),
    ("big_kernel_wake_factor", "the kernel's swap takes, to come back, times as long"),
];

/// Latencies: how names of figures begin, and what people call them.
fn latencies() -> Vec<(String, String)> {
    let at = |rate: u32| {
        (format!("parked_{}", name_at(rate)), format!("parked, {rate} clients a second"))
    };
    let named = |name: &str, title: &str| (name.to_owned(), title.to_owned());
    let mut rows = vec![
        named("parked_first", "parked, the first wake, which finds what is needed"),
        at(RATES[0]),
        named("parked_until_running", "thereof until the guest runs, by the keeper"),
    ];
    rows.extend(RATES[1..].iter().map(|&rate| at(rate)));
    rows.extend([
        named("parked_single", "parked, one at a time, the image in the page cache"),
        named("parked_single_uncached", "parked, one at a time, the image not in the page cache"),
        named("out_wake", "swapped out, the monitor stays"),
    ]);
    rows
}

/// The names of all figures, without the back end's suffix.
fn names() -> Vec<String> {
    let shares = |name: &str| SHARES.map(|(_, share, _)| format!("{name}_ms_{share}"));
    let mut names: Vec<String> = latencies().iter().flat_map(|(name, _)| shares(name)).collect();
    for variant in Variant::ALL {
        names.extend(shares(variant.name()));
        names.push(format!("{}_faults", variant.name()));
    }
    names.push("parked_guest_bytes".into());
    names.extend(BIG.map(|(name, _)| name.to_owned()));
    for disks in striping::DISKS {
        for what in ["out_ms", "out_factor", "wake_ms", "wake_factor"] {
            names.push(format!("stripes_{what}_{disks}"));
        }
    }
    names
}

/// Sets all figures to nothing, so that they are there whatever happens.
pub(super) fn declare(options: &SwapOptions, figures: &mut Figures) {
    for backend in options.common.backends() {
        for name in names() {
            figures.set(format!("{name}{}", backend.suffix()), None);
        }
    }
    for (way, _) in paging::WAYS {
        for what in ["ms", "limited_ms", "factor"] {
            figures.set(format!("paging_{way}_{what}"), None);
        }
    }
}

/// What repeats the measurement, with the options that were given.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("`cargo run --release -p bench -- {}`", arguments.join(" "))
}

/// The text.
pub(super) fn document(figures: &Figures, options: &SwapOptions) -> String {
    let first = if Precedence::is_permitted() { "a nice value of -20" } else { "none" };
    let slow = striping::BYTES_PER_S / 1_000_000;
    let rows = [
        ("parked guests", format!("{} of each back end", options.guests)),
        ("guests swapped out, and of each variant", out::guests(options).to_string()),
        ("rounds of what is compared", options.runs.to_string()),
        ("large guest", format!("{} MiB", options.mib)),
        ("slow disks", format!("{slow} MB/s each; a guest of {} MiB", striping::mib(options))),
        ("precedence of clients", first.into()),
        ("command", command()),
    ];
    let tables = [
        host::describe(&rows),
        waking(figures),
        variants(figures),
        memory(figures),
        big(figures),
        stripes(figures),
        pages(figures, options),
    ];
    let mut parts: Vec<String> = tables.iter().map(Table::to_string).collect();
    parts.push("![From a client's connection to its answer](plots/swap-wake.svg)\n".into());
    parts.push("![A guest over more disks](plots/swap-stripes.svg)\n".into());
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}

/// A figure of a back end.
fn of(figures: &Figures, name: &str, backend: Backend) -> String {
    number(figures.get(&format!("{name}{}", backend.suffix())))
}

/// The median and the 99th percentile, with their goals.
fn waking(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "a guest is woken: from a client's connection to its answer, ms",
        "goal: median",
        "99 %",
        "KVM: median",
        "99 %",
        "max",
        "process: median",
        "99 %",
        "max",
    ]);
    for (name, title) in latencies() {
        let mut cells = vec![title];
        cells.extend(["p50", "p99"].map(|share| targets::bound(&format!("{name}_ms_{share}"))));
        for backend in Backend::ALL {
            let values =
                SHARES.map(|(_, share, _)| of(figures, &format!("{name}_ms_{share}"), backend));
            cells.extend(values);
        }
        table.row(cells);
    }
    table
}

fn variants(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "parked guests, ms",
        "KVM: median",
        "99 %",
        "pages missed",
        "process: median",
        "99 %",
    ]);
    for variant in Variant::ALL {
        let name = variant.name();
        let shares = |backend| {
            ["p50", "p99"].map(|share| of(figures, &format!("{name}_ms_{share}"), backend))
        };
        let mut cells = vec![variant.title().to_owned()];
        cells.extend(shares(Backend::Kvm));
        cells.push(of(figures, &format!("{name}_faults"), Backend::Kvm));
        cells.extend(shares(Backend::Process));
        table.row(cells);
    }
    table
}

/// Rows of one figure for each back end.
fn plain(title: &str, rows: &[(&str, &str)], figures: &Figures) -> Table {
    let mut table = Table::new(&[title, "goal", "KVM", "process"]);
    for (name, called) in rows {
        let mut cells = vec![(*called).to_owned(), targets::bound(name)];
        cells.extend(Backend::ALL.map(|backend| of(figures, name, backend)));
        table.row(cells);
    }
    table
}

fn memory(figures: &Figures) -> Table {
    let rows = [("parked_guest_bytes", "each parked guest, of its keeper's PSS, bytes")];
    plain("memory", &rows, figures)
}

fn big(figures: &Figures) -> Table {
    plain("a large guest", &BIG, figures)
}

fn stripes(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "disks that are equally slow",
        "KVM: leaves, ms",
        "times as fast",
        "comes back, ms",
        "times as fast",
        "process: leaves, ms",
        "times as fast",
        "comes back, ms",
        "times as fast",
    ]);
    for disks in striping::DISKS {
        let mut cells = vec![disks.to_string()];
        for backend in Backend::ALL {
            for what in ["out_ms", "out_factor", "wake_ms", "wake_factor"] {
                let name = format!("stripes_{what}_{disks}");
                let goal = targets::bound(&name);
                let goal = if goal.is_empty() { goal } else { format!(" (goal {goal})") };
                cells.push(format!("{}{goal}", of(figures, &name, backend)));
            }
        }
        table.row(cells);
    }
    table
}

fn pages(figures: &Figures, options: &SwapOptions) -> Table {
    let mib = paging::mib(options);
    let title = format!("paging (KVM): a pass over {mib} MiB, ms");
    let limited = format!("{} MiB may be resident", mib / 4);
    let mut table = Table::new(&[&title, "all may be resident", &limited, "times as long"]);
    for (way, called) in paging::WAYS {
        let of = |what: &str| number(figures.get(&format!("paging_{way}_{what}")));
        table.row([called.to_owned(), of("ms"), of("limited_ms"), of("factor")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_has_its_figure() {
        let names = names();
        for (name, _) in latencies().iter().take(2) {
            assert!(names.contains(&format!("{name}_ms_p50")), "{name}");
        }
        for goal in ["parked_wake_ms_p50", "parked_guest_bytes", "stripes_out_factor_4"] {
            assert!(names.iter().any(|name| name == goal), "{goal}");
            assert!(!targets::bound(goal).is_empty(), "{goal}");
        }
    }
}
