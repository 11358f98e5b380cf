//! The part of docs/performance.md that `bench fleet` writes, and what programs read.

use super::driver::Trouble;
use super::measure::COMPARED;
use crate::figures::{Figures, json_number};
use crate::host;
use crate::options::FleetOptions;
use crate::table::{Table, number};
use crate::targets;
use serde_json::{Map, Value, json};

/// Figures of the fleet as a whole: name, and what people call it.
const WHOLE: [(&str, &str); 8] = [
    ("answered", "guests that answer with their own page"),
    ("answered_after", "the same after all loads"),
    ("start_all_s", "from nothing to the last one's first answer, s"),
    ("awake", "guests in memory then"),
    ("host_kib_per_guest", "memory of the host for each of them, KiB"),
    ("process_kib_per_guest", "of that, by the processes' shares, KiB"),
    ("throughput_few_per_s", "the most requests a second of few guests, α = 0.8"),
    ("throughput_ratio_to_100", "part of that which all guests can take"),
];

/// Figures of each load: name, and what people call it.
const LOADS: [(&str, &str); 14] = [
    ("saturation_per_s", "the most requests a second"),
    ("limited_by_driver", "the driver was the limit (1 = yes)"),
    ("offered_per_s", "at half of that: requests a second"),
    ("achieved_per_s", "answered, a second"),
    ("p50_ms", "latency, median, ms"),
    ("p99_ms", "99th percentile, ms"),
    ("p999_ms", "99.9th percentile, ms"),
    ("max_ms", "the longest, ms"),
    ("wakes_per_s", "guests that woke, a second"),
    ("distinct", "different guests that answered"),
    ("errors", "requests that failed"),
    ("late_p99_ms", "how late the driver sent, 99th percentile, ms"),
    ("client_cpu", "processors that the driver took"),
    ("errors_page", "pages of another guest"),
];

/// The part of the document: where more guests are registered than may be in memory, it is another one.
pub(super) fn part(options: &FleetOptions) -> &'static str {
    if options.registered.is_some() { "fleet-registered" } else { "fleet" }
}

/// How figures of a load are called.
pub(super) fn of_load(options: &FleetOptions, alpha: f64) -> impl Fn(&str) -> String {
    let part = part(options);
    move |name| format!("{part}/alpha-{alpha}/{name}")
}

/// All figures are there, whatever happens.
pub(super) fn declare(options: &FleetOptions, figures: &mut Figures) {
    WHOLE.iter().for_each(|(name, _)| figures.set(*name, None));
    for &alpha in &options.alpha {
        names().for_each(|name| figures.set(of_load(options, alpha)(&name), None));
    }
}

/// Names of the figures of a load.
fn names() -> impl Iterator<Item = String> {
    let errors = Trouble::ALL.iter().map(|trouble| format!("errors_{}", trouble.name()));
    let loads = LOADS.iter().map(|(name, _)| (*name).to_owned());
    loads.filter(|name| name != "errors_page").chain(errors)
}

/// What programs read: `fleet`, with the figures of the exponent that is compared (or the first one) beside those of the
/// whole, and `loads`, one object for each exponent.
pub(super) fn json(figures: &Figures, options: &FleetOptions) -> Value {
    let figure = |name: &str| json_number(figures.get(name));
    let load = |alpha: f64| -> Map<String, Value> {
        names().map(|name| (name.clone(), figure(&of_load(options, alpha)(&name)))).collect()
    };
    let compared = options.alpha.iter().copied().find(|&alpha| alpha == COMPARED);
    let first = compared.or(options.alpha.first().copied());
    let mut fleet: Map<String, Value> = first.map(load).unwrap_or_default();
    fleet.extend(WHOLE.iter().map(|(name, _)| ((*name).to_owned(), figure(name))));
    let given = [
        ("guests", options.guests),
        ("registered", options.count()),
        ("awake_max", options.awake()),
    ];
    fleet.extend(given.map(|(name, value)| (name.to_owned(), json!(value))));
    let loads = options.alpha.iter().map(|&alpha| {
        let mut load = load(alpha);
        load.insert("alpha".into(), json!(alpha));
        Value::Object(load)
    });
    let loads: Vec<Value> = loads.collect();
    json!({ "fleet": fleet, "loads": loads, "skipped": figures.skipped().collect::<Vec<_>>() })
}

/// The text.
pub(super) fn document(figures: &Figures, options: &FleetOptions) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rows = [
        ("registered guests", number(Some(options.count().into()))),
        ("guests in memory at most", number(Some(options.awake().into()))),
        ("latency measured for", format!("{} s for each load", options.seconds)),
        ("command", format!("`cargo run --release -p bench -- {}`", arguments.join(" "))),
    ];
    let mut whole = Table::new(&["the fleet", "goal", ""]);
    for (name, title) in WHOLE {
        whole.row([title.to_owned(), targets::bound(name), number(figures.get(name))]);
    }
    let titles: Vec<String> = options.alpha.iter().map(|alpha| format!("α = {alpha}")).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut loads = Table::new(&[&["requests by Zipf's law", "goal"], titles.as_slice()].concat());
    for (name, title) in LOADS {
        let value = |&alpha: &f64| number(figures.get(&of_load(options, alpha)(name)));
        let goal = targets::bound(&of_load(options, COMPARED)(name));
        loads.row([title.to_owned(), goal].into_iter().chain(options.alpha.iter().map(value)));
    }
    let mut parts = [host::describe(&rows), whole, loads].map(|table| table.to_string()).to_vec();
    parts.extend(figures.skipped().map(|line| format!("Not measured: {line}.\n")));
    parts.join("\n")
}
