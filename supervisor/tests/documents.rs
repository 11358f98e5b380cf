//! What is written about the interface: its page, the dashboard and the unit, against the server.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use support::Server;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The names of all metrics.
fn metrics() -> BTreeSet<String> {
    let text = Server::start().get("/metrics").text;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    families.map(|family| family.split(' ').next().unwrap().to_owned()).collect()
}

/// Words that begin like metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words =
        text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("denali_")).map(str::to_owned).collect()
}

#[test]
fn the_page_lists_the_metrics_that_there_are() {
    let page = read("docs/api.md");
    let rows = page.lines().filter(|line| line.starts_with("| `denali_"));
    let mut listed = BTreeSet::new();
    for row in rows {
        let cell = row.split('|').nth(1).unwrap();
        // `…_x` has the beginning of the name before it, up to its group.
        for name in cell.split('`').skip(1).step_by(2) {
            let name = name.split('{').next().unwrap();
            listed.insert(name.replace('…', "denali_memory"));
        }
    }
    assert_eq!(listed, metrics());
}

#[test]
fn the_page_lists_the_routes_that_there_are() {
    let page = read("docs/api.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<_> = rows
        .filter_map(|row| row.split('`').next().unwrap().split_once(" /"))
        .map(|(method, path)| format!("{method} /{path}"))
        .collect();
    let document = denali_supervisor::document();
    let mut real = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys();
        real.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert_eq!(listed, real);
}

#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("resources/denali-dashboard.json")).unwrap();
    let real = metrics();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            shown.extend(names(target["expr"].as_str().unwrap()));
        }
    }
    assert!(shown.len() > 15, "{shown:?}");
    assert_eq!(shown.difference(&real).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Guests outlive their supervisor only if the unit says so.
#[test]
fn the_unit_lets_guests_live() {
    let unit = read("resources/denali-supervisor.service");
    for line in ["KillMode=process", "Delegate=yes", "RuntimeDirectoryPreserve=yes"] {
        assert!(unit.lines().any(|is| is == line), "{line}");
    }
    assert!(unit.contains("LimitNOFILE=") && unit.contains("TimeoutStopSec="));
}
