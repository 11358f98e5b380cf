//! What a supervisor is asked for, by the commands of `denali` and by programs, and what it tells of it.

use crate::backend::Backend;
use crate::guest::{Finished, PATIENCE, wait_until};
use crate::http::get;
use crate::lines::Lines;
use crate::process;
use crate::registry::Case;
use crate::supervisor::{Host, Supervisor, create};
use denali_client::{Action, Desired, Event, GuestState, What};
use serde_json::{Value, json};
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("commands_have_guests_created_parked_woken_and_removed", commands),
        Case::each("programs_have_guests_started_stopped_parked_and_woken", programs),
        Case::each("who_listens_hears_of_a_guests_life", heard),
    ]
}

/// The objects that a command printed.
#[track_caller]
fn objects(finished: &Finished) -> Vec<Value> {
    assert_eq!(finished.status, 0, "{finished:#?}");
    let objects = serde_json::Deserializer::from_str(&finished.stdout).into_iter();
    objects.map(|object| object.expect("an object")).collect()
}

/// What guests do, by name.
#[track_caller]
fn listed(supervisor: &Supervisor<'_>, patterns: &[&str]) -> Vec<(String, String)> {
    let words = [&["list", "--json"], patterns].concat();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let guests = objects(&supervisor.denali(&words));
    guests.iter().map(|guest| (text(&guest["name"]), text(&guest["state"]))).collect()
}

/// Names of three guests, each with what it does.
fn three(states: [&str; 3]) -> Vec<(String, String)> {
    let name = |(number, state): (u32, &&str)| (format!("web-{number}"), (*state).to_owned());
    (1..).zip(&states).map(name).collect()
}

fn commands(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let file = host.path("web.json");
    std::fs::write(&file, host.web().to_string()).expect("room for a configuration");
    let file = file.to_str().expect("UTF-8");
    let made = supervisor.denali(&["create", "web", file, "--count", "3"]);
    assert!(made.stdout.starts_with("created 3 guests"), "{made:#?}");
    assert_eq!(listed(&supervisor, &[]), three(["stopped"; 3]));
    let started = supervisor.denali(&["start", "web-9", "web-1", "web-3"]);
    assert_ne!(started.status, 0);
    assert!(started.stderr.contains("\"web-9\" fits no guest"), "{started:#?}");
    assert_eq!(listed(&supervisor, &[]), three(["running", "stopped", "running"]));
    objects(&supervisor.denali(&["start", "web-?", "--json"]));
    let inspected = objects(&supervisor.denali(&["inspect", "web-2", "--json"])).remove(0);
    assert_eq!(inspected["guest"]["address"], "10.96.0.3");
    assert_eq!(inspected["configuration"]["name"], "web-2");
    let log = inspected["log"].as_str().expect("a log").to_owned();
    wait_until("it has said something", || std::fs::metadata(&log).is_ok_and(|log| log.len() > 0));
    let said = supervisor.denali(&["logs", "web-2"]);
    assert_eq!(said.stdout, std::fs::read_to_string(log).expect("a log"));
    let status = supervisor.denali(&["status", "web-2", "--json"]);
    assert!(
        status.status == 0
            && status.stdout.contains(inspected["guest"]["id"].as_str().expect("an id")),
        "{status:#?}"
    );

    for name in ["web-1", "web-2", "web-3"] {
        let page = get(supervisor.address(name), "/");
        let address = supervisor.view(name).address.expect("an address");
        assert!(page.text().contains(&format!("at {address}")), "{page:?}");
    }
    wait_until("what came last has been taken, and they stay parked", || {
        objects(&supervisor.denali(&["park", "web-1", "web-3", "--json"]));
        listed(&supervisor, &["web-*"]) == three(["parked", "running", "parked"])
    });
    objects(&supervisor.denali(&["wake", "*3", "--json"]));
    assert_eq!(listed(&supervisor, &["*-1", "web-3"])[1].1, "running");
    objects(&supervisor.denali(&["stop", "web-1", "--json"]));
    objects(&supervisor.denali(&["remove", "web-2", "--json"]));
    let left = listed(&supervisor, &[]);
    assert_eq!(left, [("web-1".into(), "stopped".into()), ("web-3".into(), "running".into())]);
    let all = supervisor.denali(&["remove", "*"]);
    assert!(all.stdout.starts_with("removed 2 guests"), "{all:#?}");
    assert!(listed(&supervisor, &[]).is_empty());
    let regions = std::fs::read_dir(host.path("state/swap")).expect("a folder").count();
    assert_eq!(regions, 0, "nothing is left of guests that were removed");
    supervisor.stop();
}

fn programs(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let outcomes = supervisor.create(&create("guest", 2, host.probe()));
    let mut names: Vec<&str> = outcomes.iter().map(|outcome| &*outcome.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["guest-1", "guest-2"]);
    assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
    let sum = supervisor.check("guest-1").sum;
    Lines::connect(supervisor.address("guest-2")).order("dirty", 9);
    supervisor.must(Action::Park, &["guest-*"]);
    ["guest-1", "guest-2"].iter().for_each(|name| supervisor.park(name));
    for name in ["guest-1", "guest-2"] {
        let view = supervisor.view(name);
        assert_eq!(
            (view.state, view.desired, view.pid),
            (GuestState::Parked, Desired::Parked, None)
        );
        assert!(view.stored_bytes > 1 << 20, "{view:?}");
    }
    // Once more changes nothing.
    supervisor.must(Action::Park, &["guest-1"]);
    supervisor.must(Action::Wake, &["guest-*"]);
    let view = supervisor.view("guest-1");
    assert!(view.state == GuestState::Running && view.wakes >= 1, "{view:?}");
    let checked = supervisor.check("guest-1");
    assert_eq!((checked.count, &checked.sum), (2, &sum));
    let process = view.pid.expect("it runs");
    supervisor.must(Action::Stop, &["guest-1"]);
    assert!(!process::exists(process));
    let outcome = supervisor.act(Action::Wake, &["guest-1"]).remove(0);
    let message = outcome.error.expect("it is not parked").message;
    assert_eq!(message, "it is not parked; start it");
    supervisor.must(Action::Start, &["guest-1"]);
    assert_eq!(supervisor.check("guest-1").count, 1, "from the start");
    let health = supervisor.client().health();
    assert!(health.is_ok(), "{health:?}");
    let counts = supervisor.client().host().expect("it tells of the host");
    assert_eq!(counts.guests.get(&GuestState::Running), Some(&2), "{counts:?}");
    assert!(counts.switch && counts.wakes >= 2 && counts.parks >= 2, "{counts:?}");
    let metrics = supervisor.client().metrics().expect("it has numbers");
    assert!(metrics.contains("state=\"running\"} 2"), "{metrics}");
    supervisor.stop();
}

/// Events from now on, heard by a thread of its own.
#[track_caller]
pub fn listen(supervisor: &Supervisor<'_>) -> Receiver<Event> {
    let events = supervisor.client().events(None).expect("it tells of what happens");
    let (heard, all) = channel();
    std::thread::spawn(move || {
        for event in events.map_while(Result::ok) {
            if heard.send(event).is_err() {
                return;
            }
        }
    });
    all
}

/// The guests that woke because something came for them, until a guest of this name does this, itself included.
#[track_caller]
pub fn arrivals(events: &Receiver<Event>, last: &str, does: GuestState) -> Vec<String> {
    let mut woken = Vec::new();
    loop {
        let event = events.recv_timeout(PATIENCE).expect("events are told");
        let What::State { state, why } = event.what else { continue };
        if state == GuestState::Waking && why == "something came for it" {
            woken.push(event.guest.clone());
        }
        if event.guest == last && state == does {
            return woken;
        }
    }
}

fn heard(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let events = listen(&supervisor);
    supervisor.add("guest", host.probe());
    supervisor.must(Action::Park, &["guest"]);
    supervisor.check("guest");
    supervisor.must(Action::Remove, &["guest"]);
    let mut all = Vec::new();
    while !all.last().is_some_and(|event: &Event| event.what == (What::Removed {})) {
        all.push(events.recv_timeout(PATIENCE).expect("the guest's end is told"));
    }
    assert!(all.windows(2).all(|two| two[1].number == two[0].number + 1), "{all:?}");
    // Whether it had to wait is the host's affair.
    let of_guest =
        |event: &&Event| event.guest == "guest" && !matches!(event.what, What::Gate { .. });
    let kinds: Vec<String> = all.iter().filter(of_guest).map(kind).collect();
    let wanted =
        ["notice", "created", "running", "parked", "waking", "woken", "stopped", "removed"];
    assert_eq!(kinds, wanted, "{all:#?}");
    let mut log = String::new();
    let gone = supervisor.client().log("guest", None, false);
    if let Ok(mut body) = gone {
        body.read_to_string(&mut log).expect("a log");
        panic!("a guest that is no more has a log: {log}");
    }
    supervisor.stop();
}

/// What happened, in a word.
fn kind(event: &Event) -> String {
    let value = json!(event);
    let name = |field: &str| value[field].as_str().map(str::to_owned);
    name("state").or_else(|| name("event")).expect("an event has a kind")
}
