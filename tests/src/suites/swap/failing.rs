//! Disks that fail, lie or are full: the guest ends with a reason, or does not start; nothing hangs.

use super::stored::region_files;
use crate::backend::Backend;
use crate::guest::{Finished, Guest};
use crate::home::Home;
use crate::lines::Lines;
use crate::loops::{Loop, private_mounts};
use crate::registry::{Case, Need};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("pages_that_were_changed_end_the_guest", |it| changed(it, true)),
        Case::each("pages_that_were_changed_end_the_guest_when_it_touches_them", |it| {
            changed(it, false);
        })
        .needs(Need::Userfaultfd),
        Case::each("a_disk_that_fails_ends_the_guest", broken).needs(Need::LoopDevices),
        Case::each("a_disk_that_fails_when_memory_leaves_harms_nobody", unwritable)
            .needs(Need::LoopDevices),
        Case::each("a_disk_without_room_is_found_at_the_start", full).needs(Need::LoopDevices),
        Case::once("what_cannot_be_swapped_is_refused", refused),
    ]
}

const LOST: i32 = 124;

/// The guest has ended because its memory cannot be had, and says so in one line and one event.
#[track_caller]
fn assert_lost(finished: &Finished) {
    assert_eq!(finished.status, LOST, "{finished:#?}");
    let end = finished.end();
    assert_eq!((&end["reason"], &end["status"]), (&"lost".into(), &LOST.into()), "{end:#}");
    let why = end["message"].as_str().expect("a reason");
    assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
}

/// Changes a byte of each block of the region's files that has anything in it, but for the first of each file.
fn change(guest: &Guest) {
    for path in region_files(guest) {
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("a region");
        let length = file.metadata().expect("its size").len();
        let mut block = [0; 4096];
        for at in (4096..length).step_by(4096) {
            file.read_exact_at(&mut block, at).expect("a block");
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(&[block[100] ^ 1], at + 100).expect("a block is written");
            }
        }
        file.sync_all().expect("the file is on the disk");
    }
}

fn changed(backend: Backend, prefetch: bool) {
    let home = Home::new(2);
    let mut configuration = home.probe("memory-hash 2");
    configuration["swap"]["prefetch"] = json!(prefetch);
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let mut lines = Lines::connect(address);
    lines.check();
    super::held(&guest, &control);
    control.swap_out();
    change(&guest);
    guest.signal(libc::SIGUSR2);
    lines.say("check");
    let finished = guest.finish();
    assert_lost(&finished);
    assert!(!finished.stdout.contains("bad "), "the guest never sees it: {finished:#?}");
}

/// A disk of so many MiB, and the configuration of a probe that swaps to it.
fn on_disk(mib: u64, arguments: &str) -> (Loop, Home, Value) {
    let (disk, home) = (Loop::new(mib << 20), Home::new(1));
    let mut configuration = home.probe(arguments);
    configuration["swap"]["stripes"] = json!([disk.folder()]);
    (disk, home, configuration)
}

fn broken(backend: Backend) {
    private_mounts(|| {
        let (disk, home, configuration) = on_disk(96, "memory-hash 4");
        let (guest, address) = home.start_as(backend, &configuration);
        let mut lines = Lines::connect(address);
        lines.check();
        let control = home.control();
        super::held(&guest, &control);
        control.swap_out();
        disk.lose();
        guest.signal(libc::SIGUSR2);
        lines.say("check");
        assert_lost(&guest.finish());
    });
}

fn unwritable(backend: Backend) {
    private_mounts(|| {
        let (disk, home, configuration) = on_disk(96, "memory-hash 4");
        let (guest, address) = home.start_as(backend, &configuration);
        let control = home.control();
        let mut lines = Lines::connect(address);
        let before = lines.check();
        disk.fill();
        let mut why = None;
        crate::guest::wait_until("the guest idles", || {
            match control.ask(&denali_control::Request::SwapOut {}) {
                denali_control::Told::Refused { why: text } if text.contains("does not idle") => {}
                denali_control::Told::Refused { why: text } => why = Some(text),
                other => panic!("the disk is broken: {other:?}"),
            }
            why.is_some()
        });
        assert!(why.is_some_and(|why| why.contains("stays in memory")));
        assert_eq!(lines.check().sum, before.sum);
        guest.signal(libc::SIGTERM);
        assert_eq!(guest.finish().status, 0);
    });
}

fn full(backend: Backend) {
    private_mounts(|| {
        let (disk, home, configuration) = on_disk(24, "memory-hash 1");
        let finished = home.run(backend, &configuration).finish();
        assert_eq!(finished.status, 124, "{finished:#?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
        assert!(finished.stderr.contains("swap.stripes[0]"), "{finished:#?}");
        let left = std::fs::read_dir(disk.folder()).expect("the disk is there").flatten();
        let left: Vec<_> =
            left.map(|entry| entry.file_name()).filter(|it| it != "lost+found").collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

fn refused() {
    let home = Home::new(1);
    let fails = |change: &dyn Fn(&mut Value), status: i32, message: &str| {
        let mut configuration = home.probe("exit 0");
        change(&mut configuration);
        let finished = home.run(Backend::Process, &configuration).finish();
        assert_eq!(finished.status, status, "{message}: {finished:#?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
        assert!(finished.stderr.contains(message), "{message}: {finished:#?}");
    };
    let missing = home.path("missing");
    fails(&|it| it["swap"]["stripes"] = json!([missing]), 124, "swap.stripes[0]");
    fails(&|it| it["swap"]["stripes"] = json!([]), 122, "swap.stripes");
    fails(&|it| it["swap"]["limit"] = json!("1GiB"), 122, "swap.limit");
    fails(&|it| it["control"] = json!(home.path("vm.json")), 124, "control");
    let socket = home.path("backend");
    let card = json!([{ "backend": { "vhost-user": socket } }]);
    fails(&|it| it["net"] = card.clone(), 122, "swap");
}
