//! Output for programs: one JSON object a line, from the first to the last event of a guest.

use crate::backend::Backend;
use crate::guest::wait_until;
use crate::registry::{Case, Suite};
use serde_json::Value;

pub fn suite() -> Suite {
    Suite {
        name: "events",
        cases: vec![
            Case::each("a_guest_that_terminates", terminates),
            Case::each("a_guest_that_crashes", crashes),
            Case::each("a_guest_that_is_ended", ended),
            Case::each("console_output_is_whole", console),
            Case::each("counters_when_asked_for", counters),
            Case::each("published_ports_and_devices", devices),
        ],
    }
}

#[track_caller]
fn parse(output: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    output.lines().map(parse).collect()
}

/// Asserts that the first event is the start of the probe, and gives the others.
#[track_caller]
fn after_start(backend: Backend, mut events: Vec<Value>) -> Vec<Value> {
    assert_eq!(events[0]["event"], "started", "{events:#?}");
    assert_eq!(events[0]["name"], "probe");
    assert_eq!(events[0]["hypervisor"], backend.name());
    assert_eq!(events[0]["memory"], 16 << 20);
    events.remove(0);
    events
}

fn terminates(backend: Backend) {
    let events = after_start(backend, parse(&backend.probe("exit 7").json().expect(7)));
    let [end] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((&end["event"], &end["reason"]), (&"ended".into(), &"terminated".into()));
    assert_eq!((&end["name"], &end["status"]), (&"probe".into(), &7.into()));
    assert!(end["uptime_ms"].is_u64() && end["devices"].is_object(), "{end:#}");
    for counter in ["exits", "interrupts_raised", "interrupts_delivered", "batches"] {
        assert!(end["counters"][counter].is_u64(), "{end:#}");
    }
}

fn crashes(backend: Backend) {
    let finished = backend.probe("ud2").json().finish();
    assert_eq!((finished.status, finished.stderr.as_str()), (121, ""));
    let events = after_start(backend, parse(&finished.stdout));
    let [end] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((&end["event"], &end["reason"]), (&"ended".into(), &"crashed".into()));
    assert_eq!(end["status"], 121);
    assert_eq!(end["report"]["cause"]["vector"], 6, "{end:#}");
    assert_eq!(end["report"]["registers"]["rip"], end["report"]["location"]["address"]);
}

fn ended(backend: Backend) {
    let mut guest = backend.probe("spin").json().start();
    guest.wait_for("ready");
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    assert_eq!(finished.status, 143);
    let events = parse(&finished.stdout);
    let end = events.last().expect("events");
    assert_eq!((&end["reason"], &end["signal"]), (&"signalled".into(), &15.into()));
    assert_eq!(end["status"], 143);
}

fn console(backend: Backend) {
    let events = after_start(backend, parse(&backend.probe("console-flood 5000").json().expect(0)));
    let (end, written) = events.split_last().expect("events");
    assert_eq!(end["event"], "ended");
    assert!(written.iter().all(|event| event["event"] == "console"));
    let text: String = written.iter().filter_map(|event| event["text"].as_str()).collect();
    let expected: String = (0..5000).map(|line| format!("line {line}\n")).collect();
    assert_eq!(text, expected);
}

fn devices(backend: Backend) {
    let run = backend.probe("exit 0").option("--publish").option("0:80").json();
    let events = parse(&run.expect(0));
    assert_eq!(events[0]["event"], "published");
    assert_eq!((&events[0]["device"], &events[0]["guest_port"]), (&0.into(), &80.into()));
    let end = events.last().expect("events");
    assert_eq!(end["devices"]["net0"]["accepted"], 0, "{end:#}");
}

/// An idle guest is asked twice, a busy one once; both go on.
fn counters(backend: Backend) {
    let user = "net.0.backend.user={}";
    let guest = backend.probe("wait-stop").set(user).json().start();
    guest.wait_for("ready");
    for count in 1..=2 {
        guest.signal(libc::SIGUSR1);
        let told = "\"event\":\"counters\"";
        wait_until("counters", || guest.stdout().matches(told).count() == count);
    }
    guest.signal(libc::SIGTERM);
    let events = parse(&guest.finish().stdout);
    let counted = events.iter().find(|event| event["event"] == "counters").expect("counters");
    assert!(counted["devices"]["net0"]["notifications"].is_u64(), "{counted:#}");
    let mut busy = backend.probe("spin").start();
    busy.wait_for("ready");
    busy.signal(libc::SIGUSR1);
    busy.wait_for_error("denali: counters");
    busy.signal_until_it_ends(libc::SIGTERM);
    assert_eq!(busy.finish().status, 143);
}
