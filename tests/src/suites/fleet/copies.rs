//! Guests that are made as copies of a snapshot.

use crate::backend::Backend;
use crate::guest::wait_until;
use crate::lines::Lines;
use crate::registry::Case;
use crate::supervisor::{Host, Supervisor, create};
use denali_client::{Action, Create};
use serde_json::json;
use std::fs;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("copies_of_a_snapshot_go_on_without_it_once_parked", copies),
        Case::once("a_snapshot_that_is_replaced_is_not_taken_for_the_old_one", replaced),
        Case::each("a_copy_that_never_ran_needs_its_snapshot", never_ran),
    ]
}

/// Has a guest copied into a file, once nothing stands against it.
#[track_caller]
fn copy(supervisor: &Supervisor<'_>, name: &str, path: &Path) {
    wait_until("nothing stands against a copy", || {
        let finished = supervisor.denali(&["snapshot", name, path.to_str().expect("UTF-8")]);
        assert!(finished.status == 0 || finished.stderr.contains("connection"), "{finished:#?}");
        finished.status == 0
    });
}

fn of(path: &Path, name: &str, count: u32) -> Create {
    let made = create(name, count, json!({}));
    Create { configuration: None, template: Some(path.into()), ..made }
}

fn copies(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    supervisor.add("model", host.probe());
    Lines::connect(supervisor.address("model")).order("dirty", 50);
    let before = supervisor.check("model");
    let path = host.path("model.snapshot");
    copy(&supervisor, "model", &path);
    let words = path.to_str().expect("UTF-8");
    let made = supervisor.denali(&["create", "copy", "--from", words, "--count", "3", "--start"]);
    assert!(made.stdout.starts_with("created 3 guests"), "{made:#?}");
    let names = [1, 2, 3].map(|number| format!("copy-{number}"));
    let mut addresses: Vec<_> =
        names.iter().map(|name| supervisor.view(name).address.expect("an address")).collect();
    addresses.push(supervisor.view("model").address.expect("an address"));
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4, "each has its own");
    let sums: Vec<String> = names
        .iter()
        .map(|name| {
            let mut lines = Lines::connect(supervisor.address(name));
            let checked = lines.check();
            assert_eq!((checked.count, &checked.sum), (before.count + 1, &before.sum));
            lines.order("dirty", 20);
            lines.check().sum
        })
        .collect();
    assert_eq!(supervisor.check("model").sum, before.sum);
    names.iter().for_each(|name| supervisor.park(name));
    fs::remove_file(&path).expect("a file");
    let published: Vec<_> = names.iter().map(|name| supervisor.address(name)).collect();
    let goes_on = |number: usize, times: u64| {
        let checked = Lines::connect(published[number]).check();
        assert_eq!((checked.count, &checked.sum), (before.count + 2 + times, &sums[number]));
    };
    goes_on(0, 1);
    supervisor.kill();
    let supervisor = host.start();
    goes_on(1, 1);
    goes_on(0, 2);
    goes_on(2, 1);
    supervisor.stop();
}

fn never_ran(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    supervisor.add("model", host.probe());
    let before = supervisor.check("model");
    let path = host.path("model.snapshot");
    copy(&supervisor, "model", &path);
    let asked = Create { start: false, on_demand: true, ..of(&path, "copy", 2) };
    assert!(supervisor.create(&asked).iter().all(|outcome| outcome.error.is_none()));
    assert_eq!(supervisor.check("copy-1").sum, before.sum);
    supervisor.stop();
    fs::rename(&path, host.path("away")).expect("a file can be moved");
    let supervisor = host.start();
    let outcome = supervisor.act(Action::Start, &["copy-2"]).remove(0);
    let problem = outcome.error.expect("what it is a copy of is not there");
    assert!(problem.message.contains(path.to_str().expect("UTF-8")), "{problem:?}");
    assert!(!problem.message.contains('\n'), "{problem:?}");
    assert_eq!(supervisor.check("model").count, before.count + 1);
    fs::rename(host.path("away"), &path).expect("a file can be moved");
    supervisor.must(Action::Start, &["copy-2"]);
    assert_eq!(supervisor.check("copy-2").sum, before.sum);
    supervisor.stop();
}

fn replaced() {
    let host = Host::new(Backend::Process);
    let supervisor = host.start();
    supervisor.add("model", host.probe());
    supervisor.add("other", host.web());
    let path = host.path("model.snapshot");
    let mut sums = Vec::new();
    for name in ["first", "second"] {
        Lines::connect(supervisor.address("model")).order("dirty", 9);
        sums.push(supervisor.check("model").sum);
        let _ = fs::remove_file(&path);
        copy(&supervisor, "model", &path);
        let waits = Create { start: false, ..of(&path, &format!("{name}-later"), 1) };
        assert!(supervisor.create(&waits)[0].error.is_none());
        assert!(supervisor.create(&of(&path, name, 1))[0].error.is_none());
        assert_eq!(Some(&supervisor.check(name).sum), sums.last());
    }
    assert_ne!(sums[0], sums[1]);
    fs::remove_file(&path).expect("a file");
    copy(&supervisor, "other", &path);
    let problem = supervisor.act(Action::Start, &["first-later"]).remove(0).error;
    let message = problem.expect("it is a copy of another").message;
    assert!(message.contains("model.snapshot: is of another guest"), "{message}");
    supervisor.stop();
}
