//! Guests without a keeper that somebody adopts: parked for the new one, who is told how they end.

use super::again::{check, resume};
use super::keeping::kept;
use crate::backend::Backend;
use crate::control::Control;
use crate::guest::{Run, wait_until};
use crate::home::Home;
use crate::keeper::{Keeper, Orphan};
use crate::lines::Lines;
use crate::registry::Case;
use denali_control::{Life, Parked, Request, Told};
use serde_json::json;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_guest_is_parked_by_itself_only_for_a_keeper", by_itself),
        Case::each("a_guest_that_is_out_wakes_without_a_keeper", wakes),
        Case::each("a_guest_has_one_keeper_at_a_time", one_at_a_time),
        Case::each("a_keeper_is_told_how_its_guest_ends", told_of_ends),
        Case::each("a_killed_keepers_guest_is_adopted_and_parked", orphan),
    ]
}

/// Status of a monitor whose guest was parked.
const PARKED: i32 = 120;

/// The guest is written into its region without having been asked.
#[track_caller]
fn parked(keeper: &Control) -> Parked {
    loop {
        assert_eq!(keeper.answer(), Some(Told::Parking {}));
        match keeper.answer() {
            Some(Told::Parked(parked)) => {
                assert_eq!(keeper.answer(), None, "nothing is told of its end beside that");
                return parked;
            }
            // Something has come meanwhile.
            Some(Told::Refused { .. }) => {}
            other => panic!("neither parked nor refused: {other:?}"),
        }
    }
}

fn by_itself(backend: Backend) {
    let home = Home::new(1);
    let mut configuration = home.parkable("memory-hash 1");
    configuration["swap"]["park_after"] = json!("20ms");
    let (guest, _) = home.start_as(backend, &configuration);
    let before = check(&guest);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(home.control().status().life, Life::Running);
    let keeper = home.control();
    let status = keeper.adopt().expect("nobody keeps it");
    let record = parked(&keeper);
    assert_eq!(guest.finish().status, PARKED);
    assert_eq!(status.guest_id.as_ref(), Some(&record.guest_id));
    let path = home.write("record", &serde_json::to_value(&record).expect("a record is data"));
    let guest = resume(&home, backend, &path);
    let after = check(&guest);
    assert_eq!((after.sum, after.generation), (before.sum, before.generation + 1));
}

fn wakes(backend: Backend) {
    let home = Home::new(1);
    let (guest, _) = home.start_as(backend, &home.parkable("memory-hash 1"));
    let keeper = home.control();
    keeper.adopt().expect("nobody keeps it");
    let before = check(&guest);
    keeper.out();
    drop(keeper);
    assert_eq!(home.control().out().life, Life::SwappedOut);
    assert_eq!(check(&guest).sum, before.sum);
    let keeper = home.control();
    assert!(keeper.adopt().is_ok());
    keeper.out();
    assert_eq!(check(&guest).sum, before.sum);
}

fn one_at_a_time(backend: Backend) {
    let home = Home::new(1);
    let (guest, _) = home.start(backend, "memory-hash 1");
    let [first, second] = [home.control(), home.control()];
    let status = first.adopt().expect("nobody keeps it");
    assert_eq!(status.guest_id, None, "its region ends with its monitor");
    assert!(second.adopt().expect_err("it has one").contains("has a keeper"));
    assert!(first.adopt().is_ok(), "it is that already");
    drop(first);
    wait_until("the first has gone", || second.adopt().is_ok());
    assert!(home.control().adopt().is_err());
    guest.signal(libc::SIGTERM);
    let ended = Told::Ended { status: 0, how: "it terminated itself".into() };
    assert_eq!(second.answer(), Some(ended));
    assert_eq!(second.answer(), None);
    assert_eq!(guest.finish().status, 0);
}

fn told_of_ends(backend: Backend) {
    for (arguments, status, why) in
        [("spin", 143, "signal 15"), ("wait-stop", 3, "terminated itself")]
    {
        let home = Home::new(1);
        let mut configuration = home.probe(arguments);
        configuration["net"] = json!([]);
        let mut guest = home.run(backend, &configuration).json().start();
        guest.wait_for("ready");
        let keeper = home.control();
        keeper.adopt().expect("nobody keeps it");
        guest.signal_until_it_ends(libc::SIGTERM);
        assert_eq!(guest.finish().status, i32::from(status));
        match keeper.answer() {
            Some(Told::Ended { status: told, how }) => {
                assert!(told == status && how.contains(why), "{told}: {how}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(keeper.answer(), None);
    }
}

/// Its monitor goes on where the guest is, whoever started it.
fn orphan(backend: Backend) {
    let home = Home::new(2);
    let mut guest = kept(backend, home.parkable("memory-hash 1"), "guest");
    guest["swap"]["park_after"] = json!(0);
    guest["control"] = json!(home.path("control"));
    let keeper = Keeper::start(&home, &[guest.clone()], &[]);
    let mut lines = Lines::connect(keeper.address("guest"));
    let before = lines.check();
    assert!(home.control().adopt().expect_err("it has one").contains("has a keeper"));
    keeper.wait_for("guest", "started", 0);
    let process = keeper.process_of("guest");
    let (running, waiting): (Vec<Orphan>, Vec<Orphan>) =
        keeper.kill().into_iter().partition(|orphan| Some(orphan.pid()) == process);
    waiting.iter().for_each(Orphan::wait);
    let control = home.control();
    wait_until("its keeper has gone", || control.adopt().is_ok());
    assert_eq!(lines.check().sum, before.sum);
    let Told::Parked(parked) = control.ask(&Request::Park { cut: true }) else {
        panic!("it is not parked")
    };
    running.iter().for_each(Orphan::wait);
    let path = home.write("record", &serde_json::to_value(&parked).expect("a record is data"));
    // What the guest ran in may have the old socket open for a moment longer.
    let another = format!("control={}", home.path("another").display());
    let guest = Run::resume(backend, &home.path("kept0.json"), &path).set(another).json().start();
    assert_eq!(check(&guest).sum, before.sum);
}
