//! Documents against the workspace: the arrows between crates, and the tests the threat model names.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Cells of the table whose first row starts like this, without that row and the rule below it.
fn table(text: &str, first_row: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(first_row)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().into()).collect();
    rows.map(cells).collect()
}

/// The words between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A package of the workspace.
#[derive(Debug, Default)]
struct Package {
    /// Folders of the workspace's crates it depends on.
    own: BTreeSet<String>,
    /// The same, but for tests only.
    own_for_tests: BTreeSet<String>,
    /// Crates from outside it depends on.
    outside: BTreeSet<String>,
}

/// The packages of the workspace by folder, from their manifests.
fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = |path: &Value| {
        let path = Path::new(path.as_str().unwrap());
        let folder = if path.ends_with("Cargo.toml") { path.parent().unwrap() } else { path };
        folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
    };
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let mut found = Package::default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let for_tests = dependency["kind"] == "dev";
            match &dependency["path"] {
                Value::Null if for_tests => {}
                Value::Null => {
                    found.outside.insert(dependency["name"].as_str().unwrap().to_owned());
                }
                path if for_tests => {
                    found.own_for_tests.insert(folder(path));
                }
                path => {
                    found.own.insert(folder(path));
                }
            }
        }
        packages.insert(folder(&package["manifest_path"]), found);
    }
    packages
}

#[test]
fn crates_know_each_other_as_the_architecture_says() {
    let rows = table(&document("architecture.md"), "| folder | its one job | may depend on |");
    let documented: BTreeMap<_, _> =
        rows.iter().map(|row| (row[0].trim_matches('`').to_owned(), quoted(&row[2]))).collect();
    let real: BTreeMap<_, _> =
        packages().into_iter().map(|(folder, package)| (folder, package.own)).collect();
    assert!(documented.len() > 10, "the table was not found");
    for (folder, arrows) in &real {
        assert_eq!(documented.get(folder), Some(arrows), "{folder}: documented, and real");
    }
    assert_eq!(documented.len(), real.len(), "the table names what is not there");
}

#[test]
fn there_is_no_cycle() {
    let packages = packages();
    let mut done = BTreeSet::new();
    while done.len() < packages.len() {
        let ready = packages.iter().find(|(folder, package)| {
            !done.contains(*folder) && package.own.iter().all(|own| done.contains(own))
        });
        let (folder, _) = ready.expect("crates that depend on each other");
        done.insert(folder.clone());
    }
}

/// Tests may use what the crate's dependencies use, and the end-to-end tests what they test.
#[test]
fn tests_add_no_arrows() {
    let packages = packages();
    for (folder, package) in &packages {
        let mut reached = package.own.clone();
        loop {
            let further: BTreeSet<_> =
                reached.iter().flat_map(|own| packages[own].own.iter().cloned()).collect();
            let before = reached.len();
            reached.extend(further);
            if reached.len() == before {
                break;
            }
        }
        for own in &package.own_for_tests {
            // The whole is tested from its program's package, and stores of pages on real disks.
            let exceptions = [("cli", "tests"), ("swap", "disk"), ("pager", "disk")];
            let known = reached.contains(own) || exceptions.contains(&(folder, own));
            assert!(known, "tests of {folder} depend on {own}");
        }
    }
}

#[test]
fn the_trusted_part_takes_few_crates_from_outside() {
    let packages = packages();
    let rows = table(&document("architecture.md"), "| folder | crates from outside |");
    let mut seen = 0;
    for row in &rows {
        let documented: BTreeSet<String> = match row[1].as_str() {
            "–" => BTreeSet::new(),
            list => list.split(", ").map(str::to_owned).collect(),
        };
        for folder in quoted(&row[0]) {
            assert_eq!(packages[&folder].outside, documented, "{folder}");
            seen += 1;
        }
    }
    assert_eq!(seen, 18, "the crates of the trusted part");
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let rows = table(&document("threat-model.md"), "| promise | attacked by |");
    assert!(rows.len() > 10, "the table was not found");
    for row in &rows {
        for part in row[1].split("; ") {
            let (folder, names) = part.split_once(": ").unwrap_or_else(|| panic!("{part}"));
            let source = sources(&root().join(folder.trim_matches('`')));
            for name in quoted(names) {
                let there = [format!("fn {name}("), format!("\"{name}\"")];
                let found = there.iter().any(|text| source.contains(text.as_str()));
                assert!(found, "{folder} has no test {name}");
            }
        }
    }
}

/// All Rust code below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}
