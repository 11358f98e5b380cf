//! Keepers that are killed: what was parked goes on with the next one, and what ran goes on alone.

use super::keeping::kept;
use super::lasting::{cycles, pause};
use crate::backend::Backend;
use crate::home::Home;
use crate::keeper::{Keeper, Orphan};
use crate::lines::{Checked, Lines};
use crate::registry::Case;
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_killed_keepers_guests_go_on_those_that_run_alone", alone),
        Case::each("a_keeper_that_is_killed_at_any_moment_loses_no_parked_guest", any_moment),
    ]
}

/// Starts a keeper with what the last one has left in `home`, and these guests.
fn start(home: &Home, guests: &[Value], option: Option<&str>) -> Keeper {
    let state = home.path("state");
    let words = ["--state", state.to_str().expect("UTF-8")].into_iter().chain(option);
    Keeper::start(home, guests, &words.collect::<Vec<_>>())
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
    let mut keeper = start(&home, &guests, None);
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
        keeper = start(&home, &[guest], None);
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
    let keeper = start(&home, &[], None);
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

/// Keeper and monitor are killed while the guest wakes, runs, is parked or rests. With `--go-back` it goes on from
/// its last state in any case.
fn any_moment(backend: Backend) {
    const NAME: &str = "guest";
    let home = Home::new(2);
    let mut guest = kept(backend, home.parkable("memory-hash 2"), NAME);
    guest["swap"]["park_after"] = json!("1ms");
    let mut keeper = start(&home, &[guest], Some("--go-back"));
    keeper.wait_until_parked(NAME);
    // The guest counts how often it checked. `kept` is the least it must know of, `last` the most.
    let (mut kept, mut last) = (0, 0);
    for cycle in 0..cycles(20) {
        // Parked and woken as fast as can be, and sometimes only once.
        for _ in 0..cycle % 4 {
            last = check(&keeper, NAME).count;
            Lines::connect(keeper.address(NAME)).order("dirty", 30);
            keeper.wait_until_parked(NAME);
            kept = last;
        }
        if cycle % 3 > 0 {
            let mut lines = Lines::connect(keeper.address(NAME));
            lines.say("check");
            if cycle % 3 == 1 {
                last = Checked::of(&lines.hear()).count;
                drop(lines);
                pause(25_000);
            } else {
                pause(12_000);
                last += 1;
            }
        }
        let orphans = keeper.kill();
        pause(5_000);
        orphans.iter().for_each(|orphan| orphan.signal(libc::SIGKILL));
        orphans.iter().for_each(Orphan::wait);
        keeper = start(&home, &[], Some("--go-back"));
        let checked = check(&keeper, NAME);
        let range = kept + 1..=last + 1;
        assert!(range.contains(&checked.count), "cycle {cycle}: {checked:?}, not in {range:?}");
        keeper.wait_until_parked(NAME);
        (kept, last) = (checked.count, checked.count);
    }
    keeper.stop();
}
