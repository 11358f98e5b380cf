//! The part of docs/performance.md that `bench swap` writes.

use super::variants::Variant;
use super::wake::{HIGHER, SHARES, name_at, rate_of};
use super::{memory, out, paging, striping, throughput};
use crate::backend::Backend;
use crate::figures::{Figures, json_number};
use crate::host;
use crate::options::SwapOptions;
use crate::precedence::Precedence;
use crate::table::{Table, number};
use crate::targets;
use serde_json::{Map, Value, json};

/// Figures of the large guest, and what people call them.
const BIG: [(&str, &str); 13] = [
    ("swap/raw_write_gb_s", "the disk alone, written, GB/s"),
    ("swap/out_gb_s", "the guest leaves, GB/s"),
    ("swap/out_raw_ratio", "part of what the disk writes"),
    ("swap/raw_read_gb_s", "the disk alone, read, GB/s"),
    ("swap/in_gb_s", "the guest comes back, GB/s"),
    ("swap/in_raw_ratio", "part of what the disk reads"),
    ("swap/warm_ms", "it looks at its memory, all of it there, ms"),
    ("swap/out_ms", "its memory leaves, ms"),
    ("swap/wake_ms", "it looks at its memory, all of it out, ms"),
    ("swap/kernel_swap_out_ms", "the kernel's swap: its memory leaves, ms"),
    ("swap/kernel_swap_wake_ms", "the kernel's swap: it looks at its memory, ms"),
    ("swap/kernel_swap_out_ratio", "the kernel's swap takes, to leave, times as long"),
    ("swap/kernel_swap_wake_ratio", "the kernel's swap takes, to come back, times as long"),
];

/// Latencies of guests that are woken: how names of figures begin, and what people call them.
fn latencies(options: &SwapOptions) -> Vec<(String, String)> {
    let at = |rate: u32| format!("parked, {rate} clients a second");
    let named = |name: &str, title: &str| (name.to_owned(), title.to_owned());
    let mut rows = vec![
        named("wake-parked/first_http", "parked, the first wake, which finds what is needed"),
        named("wake-parked/http", &at(rate_of(options.guests))),
        named("wake-parked/until_running", "thereof until the guest runs, by the keeper"),
    ];
    rows.extend(HIGHER.map(|rate| (name_at(rate), at(rate))));
    rows.extend([
        named("wake-parked/single_http", "parked, one at a time, the image in the page cache"),
        named("wake-parked/cold_http", "parked, one at a time, the image not in the page cache"),
        named(out::LATENCIES, "swapped out, the monitor stays"),
    ]);
    rows
}

/// The names of all figures, without the back end's suffix: what precedes the slash is the group.
fn names(options: &SwapOptions) -> Vec<String> {
    let shares = |name: &str| SHARES.map(|(_, share)| format!("{name}_ms_{share}"));
    let mut names: Vec<String> =
        latencies(options).iter().flat_map(|(name, _)| shares(name)).collect();
    for variant in Variant::ALL {
        names.extend(shares(&variant.latencies()));
        names.push(variant.faults());
    }
    names.push(memory::FIGURE.into());
    names.extend(BIG.map(|(name, _)| name.to_owned()));
    names.push(format!("{}/raw_ratio", throughput::GROUP));
    for disks in striping::DISKS {
        names.extend(striping::FIGURES.map(|what| format!("{}/{what}_{disks}", striping::GROUP)));
    }
    for (way, _) in paging::WAYS {
        names.extend(paging::FIGURES.map(|what| format!("{}/{way}_{what}", paging::GROUP)));
    }
    names
}

/// Sets all figures to nothing, so that they are there whatever happens.
pub(super) fn declare(options: &SwapOptions, figures: &mut Figures) {
    figures.declare(&options.common.backends(), names(options));
}

/// For programs: an object for each group of figures. A figure is there for each back end, by whose name its own
/// ends, and without that for `first`, the back end that counts on this machine.
pub(super) fn json(figures: &Figures, options: &SwapOptions, first: Option<Backend>) -> Value {
    let mut all = Map::new();
    all.insert("hypervisor".into(), first.map(Backend::name).into());
    all.insert("skipped".into(), figures.skipped().collect());
    for path in names(options) {
        let Some((group, name)) = path.split_once('/') else { continue };
        let of =
            |backend: Backend| json_number(figures.get(&format!("{path}{}", backend.suffix())));
        let group = all.entry(group).or_insert_with(|| json!({}));
        group[name] = first.map_or(Value::Null, of);
        for backend in Backend::ALL {
            group[format!("{name}_{}", backend.name())] = of(backend);
        }
    }
    Value::Object(all)
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
        waking(figures, options),
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

/// Latencies, with the goals of the median and the 99th percentile.
fn waking(figures: &Figures, options: &SwapOptions) -> Table {
    let title = "a guest is woken: from a client's connection to its answer, ms";
    let mut table =
        Table::of_backends(&[title, "goal: median", "99 %"], &["median", "99 %", "max"]);
    for (name, title) in latencies(options) {
        let of_shares = SHARES.map(|(_, share)| format!("{name}_ms_{share}"));
        let mut cells = vec![title];
        cells.extend(of_shares[..2].iter().map(|name| targets::bound(name)));
        cells.extend(figures.of_backends(&of_shares));
        table.row(cells);
    }
    table
}

fn variants(figures: &Figures) -> Table {
    let mut table = Table::of_backends(&["parked guests, ms"], &["median", "99 %", "pages missed"]);
    for variant in Variant::ALL {
        let name = variant.latencies();
        let mut cells = vec![variant.title().to_owned()];
        let names = [format!("{name}_ms_p50"), format!("{name}_ms_p99"), variant.faults()];
        cells.extend(figures.of_backends(&names));
        table.row(cells);
    }
    table
}

/// Rows of one figure for each back end.
fn plain(title: &str, rows: &[(&str, &str)], figures: &Figures) -> Table {
    let mut table = Table::new(&[title, "goal", "KVM", "process"]);
    for (name, called) in rows {
        let mut cells = vec![(*called).to_owned(), targets::bound(name)];
        cells.extend(figures.of_backends(&[name]));
        table.row(cells);
    }
    table
}

fn memory(figures: &Figures) -> Table {
    let rows = [(memory::FIGURE, "each parked guest, of its keeper's PSS, bytes")];
    plain("memory", &rows, figures)
}

fn big(figures: &Figures) -> Table {
    plain("a large guest", &BIG, figures)
}

fn stripes(figures: &Figures) -> Table {
    let each = ["leaves, ms", "times as fast", "comes back, ms", "times as fast"];
    let mut table = Table::of_backends(&["disks that are equally slow"], &each);
    for disks in striping::DISKS {
        let names = ["out_ms", "out_factor", "in_ms", "in_factor"]
            .map(|what| format!("{}/{what}_{disks}", striping::GROUP));
        let goals = names.iter().map(|name| targets::bound(name)).cycle();
        let mut cells = vec![disks.to_string()];
        cells.extend(figures.of_backends(&names).into_iter().zip(goals).map(with_goal));
        table.row(cells);
    }
    table
}

fn with_goal((value, goal): (String, String)) -> String {
    if goal.is_empty() { value } else { format!("{value} (goal {goal})") }
}

fn pages(figures: &Figures, options: &SwapOptions) -> Table {
    let mib = paging::mib(options);
    let title = format!("paging (KVM): a pass over {mib} MiB, ms");
    let limited = format!("{} MiB may be resident", mib / 4);
    let mut table = Table::new(&[&title, "all may be resident", &limited, "times as long"]);
    for (way, called) in paging::WAYS {
        let of = |what: &str| number(figures.get(&format!("{}/{way}_{what}", paging::GROUP)));
        let mut cells = vec![called.to_owned()];
        cells.extend(paging::FIGURES.map(of));
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command, Options};
    use clap::Parser;

    fn options(more: &[&str]) -> SwapOptions {
        let words = ["bench", "swap"].iter().chain(more);
        match Options::parse_from(words).command {
            Command::Swap(options) => options,
            _ => unreachable!("the command is swap"),
        }
    }

    #[test]
    fn every_goal_has_its_figure() {
        let names = names(&options(&[]));
        let goals = [
            "wake-parked/http_ms_p50",
            "wake-parked/http_ms_p99",
            "wake-parked/resident_bytes_per_parked_guest",
            "swap/out_raw_ratio",
            "swap/in_raw_ratio",
            "stripes/out_factor_4",
            "stripes/in_factor_2",
        ];
        for goal in goals {
            assert!(names.iter().any(|name| name == goal), "{goal}");
            assert!(!targets::bound(goal).is_empty(), "{goal}");
        }
    }

    /// What programs ask for.
    const ASKED_FOR: [(&str, &[&str]); 3] = [
        (
            "wake-parked",
            &[
                "http_ms_p50",
                "http_ms_p99",
                "cold_http_ms_p50",
                "cold_http_ms_p99",
                "resident_bytes_per_parked_guest",
            ],
        ),
        ("swap", &["out_gb_s", "in_gb_s", "raw_ratio", "kernel_swap_wake_ratio"]),
        ("stripes", &["gb_s_1", "gb_s_2", "gb_s_4"]),
    ];

    #[test]
    fn programs_find_every_figure_of_each_back_end() {
        let options = options(&[]);
        let mut figures = Figures::default();
        declare(&options, &mut figures);
        for (group, names) in ASKED_FOR {
            for name in names {
                figures.set(format!("{group}/{name}"), Some(1.0));
                figures.set(format!("{group}/{name}_process"), Some(2.0));
            }
        }
        for (first, expected) in [(Backend::Kvm, 1.0), (Backend::Process, 2.0)] {
            let json = json(&figures, &options, Some(first));
            assert_eq!(json["hypervisor"], first.name());
            for (group, names) in ASKED_FOR {
                for name in names {
                    assert_eq!(json[group][name], expected, "{group} {name}");
                    assert_eq!(json[group][format!("{name}_kvm")], 1.0);
                    assert_eq!(json[group][format!("{name}_process")], 2.0);
                }
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_null_and_named() {
        let options = options(&["--hypervisor", "process"]);
        let mut figures = Figures::default();
        declare(&options, &mut figures);
        figures.skip("memory", "too few");
        let json = json(&figures, &options, Some(Backend::Process));
        assert_eq!(json["skipped"], json!(["memory: too few"]));
        for (group, names) in ASKED_FOR {
            let group = json[group].as_object().unwrap();
            for name in names {
                for suffix in ["", "_kvm", "_process"] {
                    assert_eq!(group.get(&format!("{name}{suffix}")), Some(&Value::Null));
                }
            }
        }
    }

    #[test]
    fn nothing_that_was_set_is_kept_from_programs() {
        let (options, mut figures) = (options(&[]), Figures::default());
        declare(&options, &mut figures);
        let declared = figures.json().as_object().unwrap().len();
        let json = json(&figures, &options, None);
        let groups = json.as_object().unwrap().values().filter_map(Value::as_object);
        let of_back_ends = groups.flat_map(|group| group.keys()).filter(|name| {
            Backend::ALL.iter().any(|backend| name.ends_with(&format!("_{}", backend.name())))
        });
        assert_eq!(of_back_ends.count(), declared);
    }

    #[test]
    fn goals_stand_beside_the_figures_of_stripes() {
        let mut figures = Figures::default();
        figures.set("stripes/out_factor_2", Some(1.9));
        let text = stripes(&figures).to_string();
        assert!(text.contains("| 1.90 (goal ≥ 1.80) |"), "{text}");
    }
}
