//! Keepers that are killed: what was parked goes on with the next one, and what ran goes on alone.

use super::keeping::kept;
use super::lasting::{Log, RESTLESS, cycles, pause, restless};
use crate::backend::Backend;
use crate::frozen::Frozen;
use crate::home::Home;
use crate::keeper::{Keeper, Orphan};
use crate::lines::{Checked, Lines};
use crate::registry::Case;
use serde_json::{Value, json};
use std::fs::File;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_killed_keepers_guests_go_on_those_that_run_alone", alone),
        Case::each("a_keeper_that_is_killed_at_any_moment_loses_no_parked_guest", any_moment),
        Case::each("a_region_that_is_in_use_for_a_moment_is_waited_for", in_use),
        Case::each("a_guest_wakes_only_when_its_last_state_is_remembered", unwritten),
    ]
}

/// Starts a keeper with what the last one has left in `home`, and these guests.
fn start(home: &Home, guests: &[Value], options: &[&str]) -> Keeper {
    let state = home.path("state");
    let words = [&["--state", state.to_str().expect("UTF-8")], options].concat();
    Keeper::start(home, guests, &words)
}

#[track_caller]
fn check(keeper: &Keeper, name: &str) -> Checked {
    Lines::connect(keeper.address(name)).check()
}

/// A guest that is never parked by itself.
fn awake(backend: Backend, home: &Home, cycle: u64) -> (String, Value) {
    let name = format!("awake{cycle}");
    let mut guest = kept(backend, home.parkable("memory-hash 1"), &name);
    guest["swap"]["park_after"] = json!(0);
    (name, guest)
}

/// Its region is removed by the keeper after that, to which it is lost.
fn alone(backend: Backend) {
    const PARKED: [&str; 2] = ["first", "second"];
    let home = Home::new(2);
    let mut guests: Vec<Value> =
        PARKED.iter().map(|name| kept(backend, home.parkable("memory-hash 1"), name)).collect();
    let (mut name, guest) = awake(backend, &home, 0);
    guests.push(guest);
    let mut keeper = start(&home, &guests, &[]);
    for cycle in 1..=cycles(4) {
        let before = PARKED.map(|name| {
            Lines::connect(keeper.address(name)).order("dirty", 20);
            check(&keeper, name)
        });
        let mut lines = Lines::connect(keeper.address(&name));
        let sum = lines.check().sum;
        PARKED.iter().for_each(|name| keeper.wait_until_parked(name));
        let process = keeper.process_of(&name);
        let (mut running, waiting): (Vec<Orphan>, Vec<Orphan>) =
            keeper.kill().into_iter().partition(|orphan| Some(orphan.pid()) == process);
        // Those that waited for a guest wait no more.
        waiting.iter().for_each(Orphan::wait);
        let orphan = running.pop().expect("the guest that is awake has a monitor");
        assert_eq!(lines.check().sum, sum);
        let ends_first = cycle % 2 == 0;
        if ends_first {
            stop(&orphan);
        }
        let (next, guest) = awake(backend, &home, cycle);
        keeper = start(&home, &[guest], &[]);
        for (name, before) in PARKED.iter().zip(before) {
            let after = check(&keeper, name);
            assert_eq!((after.count, after.sum), (before.count + 1, before.sum));
            assert!(after.generation > before.generation);
        }
        if ends_first {
            assert_lost(&keeper, &name);
        } else {
            let notice = keeper.wait_for(&name, "notice", 0);
            assert!(notice["message"].as_str().is_some_and(|it| it.contains("in use")), "{notice}");
            assert_eq!(lines.check().sum, sum);
            stop(&orphan);
        }
        name = next;
    }
    let last = cycles(4);
    keeper.wait_for(&name, "started", 0);
    keeper.stop();
    let keeper = start(&home, &[], &[]);
    for name in PARKED.into_iter().chain([&*name]) {
        check(&keeper, name);
    }
    if last % 2 == 1 {
        assert_lost(&keeper, &format!("awake{}", last - 1));
    }
    assert_eq!(home.regions().len(), 2 * 3, "{:?}", home.regions());
    keeper.stop();
}

/// Asks a guest without a keeper to stop.
#[track_caller]
fn stop(orphan: &Orphan) {
    orphan.signal(libc::SIGTERM);
    orphan.wait();
}

#[track_caller]
fn assert_lost(keeper: &Keeper, name: &str) {
    let ended = keeper.wait_for(name, "ended", 0);
    assert!(ended["how"].as_str().is_some_and(|how| how.ends_with("it is lost")), "{ended}");
}

/// Keeper and monitor are killed; with `--go-back` the guest goes on from its last state in any case.
fn any_moment(backend: Backend) {
    let home = Home::new(2);
    let log = Log::of(&home);
    let options = ["--go-back", "--logs", log.folder()];
    let mut keeper = start(&home, &[restless(backend, home.parkable(RESTLESS))], &options);
    for cycle in 0..cycles(30) {
        let known = log.wait_for_state(&keeper);
        pause(80_000);
        let orphans = keeper.kill();
        pause(5_000);
        orphans.iter().for_each(|orphan| orphan.signal(libc::SIGKILL));
        orphans.iter().for_each(Orphan::wait);
        let before = log.counts();
        keeper = start(&home, &[], &options);
        let next = log.wait_for_more(&keeper, &before);
        let range = known + 1..=before[before.len() - 1] + 1;
        assert!(range.contains(&next), "cycle {cycle}: {next}, not in {range:?}: {keeper}");
    }
    keeper.stop();
}

/// As by a monitor that was killed together with its keeper.
fn in_use(backend: Backend) {
    const NAME: &str = "guest";
    let home = Home::new(2);
    let guest = kept(backend, home.parkable("memory-hash 1"), NAME);
    let keeper = start(&home, &[guest], &[]);
    keeper.wait_until_parked(NAME);
    keeper.stop();
    let region = File::open(&home.regions()[1]).expect("a region");
    region.lock().expect("nobody has it");
    let keeper = start(&home, &[], &[]);
    std::thread::sleep(Duration::from_millis(300));
    drop(region);
    assert_eq!(check(&keeper, NAME).count, 1);
    keeper.stop();
}

/// The thread that writes the registry is stopped, so that nothing more is written of the guest. It may go one state
/// beyond what is remembered, and no further: a keeper that knows no more must find it.
fn unwritten(backend: Backend) {
    const NAME: &str = "guest";
    let home = Home::new(1);
    let mut keeper = start(&home, &[kept(backend, home.parkable("memory-hash 1"), NAME)], &[]);
    for _ in 0..2 {
        let first = check(&keeper, NAME);
        keeper.wait_until_parked(NAME);
        // What was told of is the thread's to write. It waits again once it has.
        let writer = Frozen::when_idle(keeper.pid(), "registry");
        let before = check(&keeper, NAME);
        assert_eq!(before.count, first.count + 1);
        keeper.wait_until_parked(NAME);
        let woken = keeper.count(NAME, "waking");
        let mut lines = Lines::connect(keeper.address(NAME));
        lines.say("check");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(keeper.count(NAME, "waking"), woken, "{keeper}");
        drop(keeper.kill());
        writer.wait();
        keeper = start(&home, &[], &[]);
        let after = check(&keeper, NAME);
        assert_eq!((after.count, after.sum), (before.count + 1, before.sum));
    }
    keeper.stop();
}
