//! Supervisors, monitors and hosts that end without warning, and in order: what becomes of guests.

use crate::backend::Backend;
use crate::guest::wait_until;
use crate::lines::{Checked, Lines};
use crate::process;
use crate::registry::Case;
use crate::supervisor::{Host, Supervisor, create, kill};
use denali_client::{Action, Create, Desired, GuestState};
use serde_json::json;
use std::net::SocketAddr;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("guests_of_a_killed_supervisor_serve_and_are_adopted", supervisor_killed),
        Case::each("guests_with_sockets_of_their_own_are_adopted_and_wake", own_sockets),
        Case::each("a_supervisor_that_leaves_leaves_its_guests_running", leaves),
        Case::each("a_supervisor_that_stops_parks_all_and_the_next_resumes_those_that_ran", stops),
        Case::each("a_supervisor_that_has_no_time_to_park_loses_memory_and_no_guest", hurries),
        Case::each("after_a_host_started_anew_guests_go_on_as_they_were_meant_to", host_killed),
        Case::each("a_guest_whose_monitor_is_killed_is_started_anew_and_no_other", monitor_killed),
        Case::each("a_host_that_does_not_restart_leaves_guests_that_ended", not_restarted),
    ]
}

const NAMES: [&str; 3] = ["awake", "parked", "stopped"];

/// A guest that runs, one that is parked and one that is stopped: where they are, and what their memory was.
fn begin(host: &Host, supervisor: &Supervisor<'_>) -> [(SocketAddr, Checked); 3] {
    NAMES.iter().for_each(|name| supervisor.add(name, host.probe()));
    let known = NAMES.map(|name| {
        Lines::connect(supervisor.address(name)).order("dirty", 20);
        (supervisor.address(name), supervisor.check(name))
    });
    supervisor.park("parked");
    supervisor.must(Action::Stop, &["stopped"]);
    supervisor.wait_for_disk();
    known
}

/// The guest there goes on from where it was.
#[track_caller]
fn assert_goes_on(address: SocketAddr, before: &Checked, times: u64) {
    let after = Lines::connect(address).check();
    assert_eq!((after.count, &after.sum), (before.count + times, &before.sum));
}

/// They do what they were meant to; the one that is parked may have woken by its timer since.
#[track_caller]
fn assert_states(supervisor: &Supervisor<'_>) {
    let [awake, parked, stopped] = NAMES.map(|name| supervisor.view(name));
    assert_eq!((awake.state, stopped.state), (GuestState::Running, GuestState::Stopped));
    let has_woken = supervisor.count("parked", "waking") > 0;
    assert!(parked.state == GuestState::Parked || has_woken, "{parked:?}: {}", **supervisor);
    assert_eq!(parked.desired, Desired::Parked);
}

fn supervisor_killed(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let [(awake, before), (parked, asleep), _] = begin(&host, &supervisor);
    let (process, switch) = (supervisor.pid("awake"), host.switch());
    let mut held = Lines::connect(awake);
    supervisor.kill();
    assert_eq!(held.check().count, before.count + 1, "connections last");
    assert_goes_on(awake, &before, 2);
    let supervisor = host.start();
    assert_states(&supervisor);
    assert_eq!((supervisor.pid("awake"), host.switch()), (process, switch));
    assert_goes_on(awake, &before, 3);
    assert_eq!(held.check().count, before.count + 4);
    drop(held);
    assert_goes_on(parked, &asleep, 1);
    // One that was adopted is as any other.
    supervisor.must(Action::Park, &["parked", "awake"]);
    assert!(!process::exists(process));
    assert_goes_on(awake, &before, 5);
    supervisor.must(Action::Stop, &["awake"]);
    assert_eq!(supervisor.view("awake").state, GuestState::Stopped);
    supervisor.stop();
}

/// Ports that are published without the switch: so many that no monitor that waits could be given the guest.
fn own_sockets(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let ports: Vec<String> =
        (0..254).map(|number| format!("127.0.0.1:0:{}", 80 + number)).collect();
    for (name, published) in [("few", 1), ("many", ports.len())] {
        let mut guest = host.probe();
        guest["net"] = json!([{ "backend": { "user": { "publish": ports[..published] } } }]);
        supervisor.add(name, guest);
    }
    let names = ["few", "many"];
    let known = names.map(|name| {
        let published = supervisor.count(name, "published");
        let wanted = if name == "few" { 1 } else { ports.len() };
        assert_eq!(published, wanted, "{name}");
        supervisor.pid(name)
    });
    supervisor.kill();
    let supervisor = host.start();
    assert_eq!(names.map(|name| supervisor.pid(name)), known);
    for name in names {
        supervisor.must(Action::Park, &[name]);
        // Where it listens while it is parked is opened anew.
        supervisor.wait_for(name, "published", 0);
    }
    supervisor.wait_for_disk();
    supervisor.kill();
    let supervisor = host.start();
    for name in names {
        supervisor.wait_for(name, "published", 0);
    }
    let woken = supervisor.count("few", "woken");
    assert_eq!(supervisor.check("few").count, 1);
    assert!(supervisor.count("few", "woken") >= woken);
    supervisor.stop();
}

fn leaves(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let [(awake, before), (parked, asleep), _] = begin(&host, &supervisor);
    let process = supervisor.pid("awake");
    supervisor.leave();
    assert_goes_on(awake, &before, 1);
    let mut lines = Lines::connect(parked);
    lines.say("check");
    let supervisor = host.start();
    let answer = Checked::of(&lines.hear());
    assert_eq!((answer.count, answer.sum), (asleep.count + 1, asleep.sum), "it waited");
    assert_eq!(supervisor.pid("awake"), process);
    // It is nobody's child: what asks it to end, and its end, are seen all the same.
    kill(process, libc::SIGKILL);
    supervisor.wait_for_view("awake", "is started anew", |view| {
        view.restarts == 1 && view.state == GuestState::Running
    });
    assert_eq!(Lines::connect(awake).check().count, 1);
    supervisor.must(Action::Remove, &["*"]);
    supervisor.stop();
}

fn stops(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let [(_, before), (_, asleep), _] = begin(&host, &supervisor);
    supervisor.stop();
    for times in 1..=2 {
        let supervisor = host.start();
        supervisor.wait_for_state("awake", GuestState::Running);
        assert_states(&supervisor);
        assert_goes_on(supervisor.address("awake"), &before, times);
        supervisor.stop();
    }
    let supervisor = host.start();
    assert_goes_on(supervisor.address("parked"), &asleep, 1);
    supervisor.stop();
}

/// Whichever it parks in so short a time, all run again.
fn hurries(backend: Backend) {
    let host = Host::new(backend).with("drain", "1ms");
    let supervisor = host.start();
    let outcomes = supervisor.create(&create("guest", 4, host.probe()));
    assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
    supervisor.stop();
    let supervisor = host.start();
    for outcome in &outcomes {
        supervisor.wait_for_state(&outcome.name, GuestState::Running);
        assert_eq!(supervisor.check(&outcome.name).count, 1);
    }
    supervisor.stop();
}

/// Nothing of it is told: everything is killed at once.
fn host_killed(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let [_, (_, asleep), _] = begin(&host, &supervisor);
    supervisor.kill();
    host.end();
    let supervisor = host.start();
    supervisor.wait_for_state("awake", GuestState::Running);
    assert_states(&supervisor);
    assert_eq!(supervisor.check("awake").count, 1, "what was in memory alone is gone");
    assert_goes_on(supervisor.address("parked"), &asleep, 1);
    supervisor.must(Action::Start, &["stopped"]);
    assert_eq!(supervisor.check("stopped").count, 1);
    supervisor.stop();
}

fn monitor_killed(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let [(awake, _), (parked, asleep), _] = begin(&host, &supervisor);
    supervisor.add("other", host.probe());
    let (other, mut others) =
        (supervisor.pid("other"), Lines::connect(supervisor.address("other")));
    for times in 1..=2 {
        let process = supervisor.pid("awake");
        kill(process, libc::SIGKILL);
        supervisor.wait_for_view("awake", "is started anew", |view| {
            view.restarts == times && view.state == GuestState::Running
        });
        assert_eq!(Lines::connect(awake).check().count, 1);
        assert_eq!(others.check().count, times);
    }
    assert_eq!(supervisor.pid("other"), other);
    assert_goes_on(parked, &asleep, 1);
    supervisor.stop();
}

fn not_restarted(backend: Backend) {
    let host = Host::new(backend).with("restart", false);
    let supervisor = host.start();
    let asked = create("guest", 2, host.probe());
    assert!(supervisor.create(&Create { start: true, ..asked }).len() == 2);
    let process = supervisor.pid("guest-1");
    kill(process, libc::SIGKILL);
    supervisor.wait_for_state("guest-1", GuestState::Failed);
    let note = supervisor.view("guest-1").note.expect("a note");
    assert!(note.contains("signal 9"), "{note}");
    wait_until("its end is told", || supervisor.count("guest-1", "ended") == 1);
    assert_eq!(supervisor.check("guest-2").count, 1);
    supervisor.must(Action::Start, &["guest-1"]);
    assert_eq!(supervisor.check("guest-1").count, 1);
    supervisor.stop();
}
