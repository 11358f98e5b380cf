//! Guests on the switch: who comes for one that is parked, or has not started, wakes it.

use super::orders::{arrivals, listen};
use crate::backend::Backend;
use crate::guest::{PATIENCE, wait_until};
use crate::http::get;
use crate::lines::{Checked, Lines};
use crate::registry::Case;
use crate::supervisor::{Host, Supervisor, create, kill};
use denali_client::{Action, Create, Desired, GuestState};
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("a_connection_wakes_a_parked_guest", wakes),
        Case::each("a_guest_on_demand_starts_at_the_first_connection", on_demand),
        Case::each("a_guest_that_idles_is_parked_by_itself", idle),
        Case::each("guests_of_a_tenant_reach_each_other_where_the_host_says_so", tenants),
        Case::each("guests_of_a_switch_that_is_killed_are_reached_again", switch_killed),
    ]
}

fn wakes(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    supervisor.add("guest", host.probe());
    let first = supervisor.check("guest");
    for count in 2..=4 {
        supervisor.park("guest");
        let checked = supervisor.check("guest");
        assert_eq!((checked.count, &checked.sum), (count, &first.sum));
    }
    let view = supervisor.view("guest");
    assert!(view.wakes >= 3, "{view:?}");
    assert!(view.packets > 0 && view.active_ms.is_some(), "{view:?}");
    supervisor.stop();
}

fn on_demand(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let asked = Create { start: false, on_demand: true, ..create("guest", 3, host.probe()) };
    assert!(supervisor.create(&asked).iter().all(|outcome| outcome.error.is_none()));
    let view = supervisor.view("guest-2");
    assert_eq!((view.state, view.desired, view.pid), (GuestState::Parked, Desired::Parked, None));
    assert_eq!(supervisor.check("guest-2").count, 1);
    assert_eq!(supervisor.view("guest-2").state, GuestState::Running);
    assert_eq!(supervisor.view("guest-1").state, GuestState::Parked);
    let addresses = [1, 3].map(|number| supervisor.address(&format!("guest-{number}")));
    // They wait for who comes, whichever supervisor there is.
    supervisor.kill();
    let supervisor = host.start();
    assert_eq!(supervisor.view("guest-1").state, GuestState::Parked);
    assert_eq!(Lines::connect(addresses[0]).check().count, 1);
    supervisor.stop();
    let supervisor = host.start();
    assert_eq!(supervisor.view("guest-3").state, GuestState::Parked);
    assert_eq!(supervisor.check("guest-3").count, 1);
    supervisor.stop();
}

fn idle(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    let mut web = host.web();
    web["swap"] = json!({
        "stripes": [host.path("stripe0")], "after": 0, "park_after": "20ms", "park_horizon": "50ms",
    });
    supervisor.add("web", web);
    for round in 0..3 {
        supervisor.wait_until_parked("web");
        let view = supervisor.view("web");
        assert_eq!(view.desired, Desired::Running, "round {round}: {view:?}");
        assert_eq!(get(supervisor.address("web"), "/").status, 200, "round {round}");
    }
    supervisor.stop();
}

/// Port of a guest that answers datagrams.
pub const ECHO: u16 = 7;

/// The configuration of a guest that answers datagrams at [`ECHO`].
pub fn echo(host: &Host) -> Value {
    asking(host, &format!("udp-echo {ECHO}"))
}

/// The configuration of a probe that does this.
pub fn asking(host: &Host, arguments: &str) -> Value {
    let mut probe = host.unpublished();
    probe["image"] = json!(denali_images::PROBE_PATH);
    probe["args"] = json!(arguments);
    probe
}

/// What a guest has said once it has ended by itself.
#[track_caller]
pub fn said_at_its_end(host: &Host, supervisor: &Supervisor<'_>, name: &str) -> String {
    supervisor.wait_for_state(name, GuestState::Stopped);
    fs::read_to_string(host.path(&format!("logs/{name}.log"))).expect("a log")
}

fn tenants(backend: Backend) {
    let host = Host::new(backend).with("network", json!({ "among_guests": "tenant" }));
    let supervisor = host.start();
    let add = |tenant: &str, name: &str, configuration| {
        let asked = Create { tenant: tenant.into(), ..create(name, 1, configuration) };
        assert!(supervisor.create(&asked)[0].error.is_none());
    };
    add("alice", "echo", echo(&host));
    supervisor.park("echo");
    let events = listen(&supervisor);
    let words = format!("egress udp=10.96.0.2:{ECHO}/hello");
    add("bob", "his", asking(&host, &words));
    let said = said_at_its_end(&host, &supervisor, "his");
    assert!(said.contains("/hello -> silence"), "{said}");
    let woken = arrivals(&events, "his", GuestState::Stopped);
    assert!(woken.is_empty(), "who may not ask it does not wake it: {woken:?}");
    supervisor.must(Action::Wake, &["echo"]);
    add("alice", "hers", asking(&host, &words));
    let said = said_at_its_end(&host, &supervisor, "hers");
    assert!(said.contains("/hello -> hello"), "{said}");
    supervisor.stop();
}

fn switch_killed(backend: Backend) {
    let host = Host::new(backend);
    let supervisor = host.start();
    for name in ["awake", "parked"] {
        supervisor.add(name, host.probe());
    }
    let sums = ["awake", "parked"].map(|name| supervisor.check(name).sum);
    supervisor.must(Action::Park, &["parked"]);
    let published = ["awake", "parked"].map(|name| supervisor.count(name, "published"));
    let process = host.switch().expect("there is a switch");
    kill(process, libc::SIGKILL);
    wait_until("another switch is there", || host.switch().is_some_and(|pid| pid != process));
    for ((name, sum), before) in ["awake", "parked"].into_iter().zip(&sums).zip(published) {
        supervisor.wait_for(name, "published", before);
        // What the old switch still had to say of the connection before is lost, and may cost the next one.
        let until = Instant::now() + PATIENCE;
        let answer = loop {
            let answer = Lines::connect(supervisor.address(name)).try_ask("check");
            match answer.filter(|answer| !answer.is_empty()) {
                Some(answer) => break answer,
                None => assert!(Instant::now() < until, "{name}: {}", *supervisor),
            }
        };
        assert_eq!(&Checked::of(&answer).sum, sum, "{name}");
    }
    supervisor.stop();
}
