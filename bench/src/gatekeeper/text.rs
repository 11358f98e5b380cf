//! The part of docs/performance.md that `bench gatekeeper` writes.

use super::measured::{FIGURES, name_of};
use crate::figures::{Figures, json_number};
use crate::host;
use crate::options::GatekeeperOptions;
use crate::plot::{Axis, Chart, Line, Scale};
use crate::table::{Table, number};
use anyhow::Result;
use serde_json::{Map, Value, json};

/// Lines of the chart: which figure, and its name.
const LINES: [(&str, &str); 3] = [
    ("best_hit_ratio", "the most wanted always in memory"),
    ("hit_ratio", "the gatekeeper"),
    ("lru_hit_ratio", "the one unwanted for longest leaves at once"),
];

/// What programs read: one object for each exponent.
pub(super) fn json(figures: &Figures, options: &GatekeeperOptions) -> Value {
    let of = |alpha: f64| {
        let figure = |name: &str| json_number(figures.get(&name_of(alpha, name)));
        let members = FIGURES.iter().map(|(name, ..)| ((*name).to_owned(), figure(name)));
        let mut group: Map<String, Value> = members.collect();
        group.insert("alpha".into(), json!(alpha));
        Value::Object(group)
    };
    let loads: Vec<Value> = options.alpha.iter().map(|&alpha| of(alpha)).collect();
    json!({ "guests": options.guests, "awake": options.awake, "gatekeeper": loads })
}

/// Hit ratios by exponent.
pub(super) fn plot(figures: &Figures, options: &GatekeeperOptions) -> Result<()> {
    let mut alphas = options.alpha.clone();
    alphas.sort_by(f64::total_cmp);
    let point = |alpha: f64, name: &str| Some((alpha, figures.get(&name_of(alpha, name))?));
    let lines = LINES.map(|(name, title)| Line {
        name: title.into(),
        points: alphas.iter().filter_map(|&alpha| point(alpha, name)).collect(),
    });
    Chart {
        title: "Requests that find their guest in memory",
        x: Axis { title: "exponent of Zipf's law", scale: Scale::Linear },
        y: Axis { title: "part of all requests", scale: Scale::Linear },
        lines: lines.into(),
    }
    .write("gatekeeper-hits")
}

/// The text.
pub(super) fn document(figures: &Figures, options: &GatekeeperOptions) -> String {
    let rows = [
        ("registered guests", number(Some(options.guests.into()))),
        ("guests in memory at most", number(Some(options.awake.into()))),
        ("requests a second", number(Some(options.rate.into()))),
        ("simulated", format!("{} s after as many that are not counted", options.seconds)),
        ("command", "`cargo run --release -p bench -- gatekeeper`".into()),
    ];
    let titles: Vec<String> = options.alpha.iter().map(|alpha| format!("α = {alpha}")).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new(&[&["simulated load"], titles.as_slice()].concat());
    for (name, title, _) in FIGURES {
        let value = |&alpha: &f64| number(figures.get(&name_of(alpha, name)));
        table.row(std::iter::once(title.to_owned()).chain(options.alpha.iter().map(value)));
    }
    [host::describe(&rows).to_string(), table.to_string()].join("\n")
}
