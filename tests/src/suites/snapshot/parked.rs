//! Copies that are parked: they go on like any other guest, though their snapshot is there no more.

use super::{copy, start};
use crate::backend::Backend;
use crate::control::Control;
use crate::guest::{Guest, Run, denali, wait_until};
use crate::home::Home;
use crate::lines::{Checked, Lines};
use crate::registry::{Case, Need};
use crate::suites::park::again::{check, park, park_through, resume};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_parked_copy_goes_on_without_its_snapshot", changed),
        Case::each("a_copy_that_was_never_touched_is_parked", untouched),
        Case::each("a_copy_whose_memory_is_out_is_parked", was_out),
        Case::each("a_copy_of_a_guest_that_was_out_is_parked_while_out", never_in),
        Case::each("a_copy_that_finds_no_room_to_be_parked_goes_on", no_room),
        Case::each("a_copy_is_paged_once_it_has_been_parked", paged)
            .needs(Need::KvmOnly)
            .needs(Need::Userfaultfd),
    ]
}

const HOST_LACKS: i32 = 124;

/// A snapshot of a guest that is gone, which watches over so many MiB, and what it found.
fn snapshot(backend: Backend, home: &Home, mib: u64) -> (PathBuf, Checked) {
    let (guest, address) = home.start_as(backend, &home.parkable(&format!("memory-hash {mib}")));
    Lines::connect(address).order("dirty", 50);
    let before = check(&guest);
    let path = copy(home, "copy");
    drop(guest);
    wait_until("the region of the guest that is gone is removed", || home.regions().is_empty());
    (path, before)
}

fn control(snapshot: &Path) -> PathBuf {
    snapshot.with_extension("control1")
}

/// Parks a copy whose snapshot is removed before, continues it, and has it check its memory; then all that once
/// more.
#[track_caller]
fn assert_goes_on(backend: Backend, home: &Home, snapshot: &Path, clone: Guest, sum: &str) {
    fs::remove_file(snapshot).expect("the snapshot can be removed");
    let record = park_through(&control(snapshot), clone, home.path("first"));
    assert_eq!(home.regions().len(), 2, "{:?}", home.regions());
    let clone = resume(home, backend, &record);
    let first = check(&clone);
    assert_eq!(first.sum, sum);
    Lines::connect(clone.address()).order("dirty", 30);
    let changed = check(&clone);
    assert_ne!(changed.sum, sum);
    let record = park(home, clone, "second");
    let clone = resume(home, backend, &record);
    let second = check(&clone);
    assert_eq!((&second.sum, second.generation), (&changed.sum, first.generation + 1));
    home.control().out();
    assert_eq!(check(&clone).sum, second.sum, "it leaves memory as ever");
    clone.signal(libc::SIGTERM);
    assert_eq!(clone.finish().status, 0);
    wait_until("its region is removed", || home.regions().is_empty());
}

fn changed(backend: Backend) {
    let home = Home::new(2);
    let (snapshot, before) = snapshot(backend, &home, 4);
    let clone = start(backend, &snapshot, 1);
    let mut lines = Lines::connect(clone.address());
    assert_eq!(lines.check().sum, before.sum);
    lines.order("dirty", 40);
    let after = lines.check();
    assert_ne!(after.sum, before.sum);
    drop(lines);
    assert_goes_on(backend, &home, &snapshot, clone, &after.sum);
}

fn untouched(backend: Backend) {
    let home = Home::new(2);
    let (snapshot, before) = snapshot(backend, &home, 2);
    let clone = start(backend, &snapshot, 1);
    Control::connect(&control(&snapshot)).status();
    assert_goes_on(backend, &home, &snapshot, clone, &before.sum);
}

/// What it has changed is in its region, and the rest in the snapshot.
fn was_out(backend: Backend) {
    let home = Home::new(2);
    let (snapshot, before) = snapshot(backend, &home, 4);
    let clone = start(backend, &snapshot, 1);
    let control = Control::connect(&control(&snapshot));
    let mut sum = before.sum;
    for _ in 0..2 {
        let mut lines = Lines::connect(clone.address());
        assert_eq!(lines.check().sum, sum);
        lines.order("dirty", 40);
        sum = lines.check().sum;
        drop(lines);
        let stored = control.out().stored_pages;
        assert!(stored < 4 << 8, "what is as in the snapshot is not stored: {stored} pages");
    }
    assert_goes_on(backend, &home, &snapshot, clone, &sum);
}

fn never_in(backend: Backend) {
    let home = Home::new(2);
    let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 2"));
    let before = check(&guest);
    home.control().out();
    let snapshot = copy(&home, "copy");
    drop(guest);
    wait_until("its region is removed", || home.regions().is_empty());
    let clone = start(backend, &snapshot, 1);
    Control::connect(&control(&snapshot)).out();
    assert_goes_on(backend, &home, &snapshot, clone, &before.sum);
}

/// What it has of the snapshot cannot be paged, so that its limit holds when it goes on from its region.
fn paged(backend: Backend) {
    let home = Home::new(2);
    let mut configuration = home.parkable("memory-hash 16");
    configuration["memory"] = json!("48MiB");
    configuration["resident_limit"] = json!("8MiB");
    let (guest, _) = home.start_as(backend, &configuration);
    let before = check(&guest);
    let snapshot = copy(&home, "copy");
    drop(guest);
    wait_until("its region is removed", || home.regions().is_empty());
    let clone = start(backend, &snapshot, 1);
    assert_eq!(check(&clone).sum, before.sum);
    Control::connect(&control(&snapshot)).out();
    assert_eq!(check(&clone).sum, before.sum);
    assert_goes_on(backend, &home, &snapshot, clone, &before.sum);
}

/// Its region has room for what it changes, and none for what the snapshot has.
fn no_room(backend: Backend) {
    let home = Home::new(2);
    let (snapshot, before) = snapshot(backend, &home, 8);
    let socket = control(&snapshot);
    let set = format!("control={}", socket.display());
    let clone = Run::copy(backend, &snapshot).set(set).set("swap.limit=4MiB");
    let clone = clone.json().start();
    let mut sum = check(&clone).sum;
    assert_eq!(sum, before.sum);
    let control = Control::connect(&socket);
    for out in [false, true] {
        if out {
            control.out();
        }
        wait_until("no connection stands against it", || {
            let finished = denali(["park".as_ref(), socket.as_os_str()]);
            assert_eq!(finished.status, HOST_LACKS, "{finished:#?}");
            !finished.stderr.contains("connection")
        });
        let finished = denali(["park".as_ref(), socket.as_os_str()]);
        assert!(finished.stderr.contains("swap: the region is full"), "{finished:#?}");
        assert_eq!(check(&clone).sum, sum);
        Lines::connect(clone.address()).order("dirty", 5);
        control.out();
        sum = check(&clone).sum;
    }
}
