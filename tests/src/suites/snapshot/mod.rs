//! Copies of guests: a guest that is copied goes on, and any number of others begin where it was.

mod networks;
mod parked;
mod sharing;

use crate::backend::Backend;
use crate::guest::{Guest, Run, denali, wait_until};
use crate::home::Home;
use crate::lines::{Identity, Lines, ask};
use crate::registry::{Case, Suite};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub fn suite() -> Suite {
    let mut suite = Suite {
        name: "snapshot",
        cases: vec![
            Case::each("a_guest_goes_on_and_two_copies_begin_where_it_was", copies),
            Case::each("copies_are_others_than_the_guest_was", others),
            Case::each("a_guest_whose_memory_is_out_is_copied", was_out),
            Case::each("what_is_no_whole_snapshot_is_refused", refused),
        ],
    };
    suite.cases.extend(sharing::cases());
    suite.cases.extend(networks::cases());
    suite.cases.extend(parked::cases());
    suite
}

/// Has a guest copied once nothing stands against it; where the copy is.
#[track_caller]
fn copy(home: &Home, name: &str) -> PathBuf {
    let (control, path) = (home.path("control"), home.path(name));
    wait_until("nothing stands against a copy", || {
        let finished = denali(["snapshot".as_ref(), control.as_os_str(), path.as_os_str()]);
        assert!(finished.status == 0 || finished.stderr.contains("connection"), "{finished:#?}");
        finished.status == 0
    });
    path
}

/// A guest that swaps nothing: what it is a copy of is its memory.
fn plain(home: &Home, arguments: &str) -> Value {
    let mut configuration = home.probe(arguments);
    configuration.as_object_mut().expect("an object").remove("swap");
    configuration
}

/// Starts a copy of a guest.
fn start(backend: Backend, snapshot: &Path, number: u8) -> Guest {
    let control = snapshot.with_extension(format!("control{number}"));
    let control = format!("control={}", control.to_str().expect("UTF-8"));
    Run::copy(backend, snapshot).set(control).json().start()
}

fn copies(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start_as(backend, &plain(&home, "memory-hash 4"));
    Lines::connect(address).order("dirty", 50);
    let before = Lines::connect(address).check();
    let snapshot = copy(&home, "copy");
    let clones = [1, 2].map(|number| start(backend, &snapshot, number));
    for clone in &clones {
        let mut lines = Lines::connect(clone.address());
        let checked = lines.check();
        assert_eq!((checked.count, &checked.sum), (before.count + 1, &before.sum));
        assert!(checked.generation > before.generation, "{checked:?}");
        lines.order("dirty", 20);
        assert_ne!(lines.check().sum, before.sum);
    }
    // What the copies did is nothing to the guest, nor to others.
    assert_eq!(Lines::connect(address).check().sum, before.sum);
    let third = start(backend, &snapshot, 3);
    assert_eq!(Lines::connect(third.address()).check().sum, before.sum);
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn others(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start_as(backend, &plain(&home, "identity"));
    let first = Lines::connect(address).identity();
    let snapshot = copy(&home, "copy");
    let clones = [1, 2].map(|number| start(backend, &snapshot, number));
    let seen = clones.each_ref().map(|clone| Lines::connect(clone.address()).identity());
    let own = Lines::connect(guest.address()).identity();
    let all: Vec<&Identity> = seen.iter().chain([&first, &own]).collect();
    for (index, one) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| other.random != one.random), "{all:#?}");
    }
    for copy in &seen {
        assert!(copy.generation > first.generation, "{all:#?}");
        assert!(copy.monotonic_ns > first.monotonic_ns, "{all:#?}");
        assert!(copy.realtime_ns > first.realtime_ns, "{all:#?}");
    }
}

fn was_out(backend: Backend) {
    let home = Home::new(1);
    let (_guest, address) = home.start(backend, "memory-hash 2");
    let before = Lines::connect(address).check();
    home.control().out();
    let snapshot = copy(&home, "copy");
    let clone = start(backend, &snapshot, 1);
    assert_eq!(Lines::connect(clone.address()).check().sum, before.sum);
    assert_eq!(Lines::connect(address).check().sum, before.sum);
}

fn refused(backend: Backend) {
    let home = Home::new(1);
    let (_guest, address) = home.start_as(backend, &plain(&home, "memory-hash 1"));
    let snapshot = copy(&home, "copy");
    let whole = fs::read(&snapshot).expect("the snapshot");
    let fails = |content: &[u8]| {
        let path = home.path("damaged");
        fs::write(&path, content).expect("room for a snapshot");
        let finished = Run::copy(backend, &path).finish();
        assert_eq!(finished.status, 123, "{finished:#?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
    };
    fails(b"");
    fails(b"no snapshot at all");
    fails(&whole[..whole.len() / 2]);
    // One that was not finished has no header yet.
    fails(&[&[0; 4096], &whole[4096..]].concat());
    for at in [0, 40, 4096 + 10] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fails(&damaged);
    }
    // A file that is there is nobody's to write over.
    let existing =
        denali(["snapshot".as_ref(), home.path("control").as_os_str(), snapshot.as_os_str()]);
    assert_eq!(existing.status, 124, "{existing:#?}");
    let full = File::options().read(true).write(true).open(&snapshot).expect("the snapshot");
    assert!(home.control().snapshot(&full).is_err(), "the file is not empty");
    assert!(ask(address, "check").starts_with("ok 1 "), "the guest goes on");
    assert!(fs::read(&snapshot).expect("the snapshot") == whole);
}
