//! Disks that fail under a keeper: what happens to their guests is told, and is nothing to the others.

use super::keeping::kept;
use crate::backend::Backend;
use crate::control::Control;
use crate::home::Home;
use crate::keeper::Keeper;
use crate::lines::{Lines, ask};
use crate::loops::{Loop, private_mounts};
use crate::registry::{Case, Need};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    let on_disk = |name, body| Case::each(name, body).needs(Need::LoopDevices);
    vec![
        on_disk("a_parked_guest_whose_disk_fails_is_given_up_and_no_other", parked),
        on_disk("a_guest_that_is_out_is_lost_with_its_disk_and_no_other", out),
        on_disk("a_guest_that_finds_no_room_to_be_parked_goes_on", full),
    ]
}

/// The guest whose disk fails, and those that have others.
const POOR: &str = "poor";
const OTHERS: [&str; 2] = ["first", "second"];

/// A guest on this disk.
fn poor(backend: Backend, home: &Home, disk: &Loop, arguments: &str) -> Value {
    let mut guest = kept(backend, home.parkable(arguments), POOR);
    guest["swap"]["stripes"] = json!([disk.folder()]);
    guest
}

/// A keeper of this guest and of others, with `DIR/state`.
fn start(backend: Backend, home: &Home, poor: Value) -> Keeper {
    let state = home.path("state");
    let others = OTHERS.map(|name| kept(backend, home.parkable("memory-hash 1"), name));
    let guests: Vec<Value> = std::iter::once(poor).chain(others).collect();
    Keeper::start(home, &guests, &["--state", state.to_str().expect("UTF-8")])
}

/// The others are woken, find their memory as it was for the `count`th time, and are parked again.
#[track_caller]
fn assert_others_go_on(keeper: &Keeper, count: u64) {
    for name in OTHERS {
        keeper.wait_until_parked(name);
        let answer = ask(keeper.address(name), "check");
        assert!(answer.starts_with(&format!("ok {count} ")), "{answer}");
    }
}

/// How a guest that goes on no more is said to have ended.
#[track_caller]
fn end_of_poor(keeper: &Keeper) -> Value {
    let ended = keeper.wait_for(POOR, "ended", 0);
    assert!(!ended["how"].as_str().expect("a reason").contains('\n'), "{ended}");
    ended
}

/// What there is of it stays: perhaps its disk comes back.
fn parked(backend: Backend) {
    private_mounts(|| {
        let disk = Loop::new(96 << 20);
        let home = Home::new(1);
        let keeper = start(backend, &home, poor(backend, &home, &disk, "memory-hash 4"));
        assert!(ask(keeper.address(POOR), "check").starts_with("ok 1 "));
        keeper.wait_until_parked(POOR);
        assert_others_go_on(&keeper, 1);
        disk.lose();
        let answer = Lines::connect(keeper.address(POOR)).try_ask("check");
        assert_eq!(answer, None, "a guest without its memory answers nothing");
        let ended = end_of_poor(&keeper);
        assert!(ended["how"].as_str().is_some_and(|how| how.contains("while it woke")), "{ended}");
        for count in 2..=3 {
            assert_others_go_on(&keeper, count);
        }
        keeper.stop();
    });
}

fn out(backend: Backend) {
    private_mounts(|| {
        let disk = Loop::new(96 << 20);
        let home = Home::new(1);
        let mut guest = poor(backend, &home, &disk, "memory-hash 4");
        guest["swap"]["park_after"] = json!(0);
        guest["control"] = json!(home.path("control"));
        let keeper = start(backend, &home, guest);
        assert!(ask(keeper.address(POOR), "check").starts_with("ok 1 "));
        assert_others_go_on(&keeper, 1);
        Control::connect(&home.path("control")).out();
        disk.lose();
        let answer = Lines::connect(keeper.address(POOR)).try_ask("check");
        assert_eq!(answer, None, "a guest without its memory answers nothing");
        assert_eq!(end_of_poor(&keeper)["status"], 124);
        for count in 2..=3 {
            assert_others_go_on(&keeper, count);
        }
        keeper.stop();
    });
}

/// It stays in memory, and says so.
fn full(backend: Backend) {
    private_mounts(|| {
        let disk = Loop::new(96 << 20);
        let home = Home::new(1);
        let mut guest = poor(backend, &home, &disk, "memory-hash 4");
        guest["swap"]["park_after"] = json!("2s");
        let keeper = start(backend, &home, guest);
        let address = keeper.address(POOR);
        // As long as somebody is connected it is not parked.
        let mut lines = Lines::connect(address);
        assert_eq!(lines.check().count, 1);
        disk.fill();
        drop(lines);
        let refused = keeper.wait_for(POOR, "not_parked", 0);
        assert!(refused["why"].as_str().is_some_and(|why| why.contains("full")), "{refused}");
        assert!(ask(address, "check").starts_with("ok 2 "));
        assert_others_go_on(&keeper, 1);
        assert!(ask(address, "check").starts_with("ok 3 "));
        keeper.stop();
    });
}
