//! Idling, quanta, precedence and holding, as the host sees them from outside.

use crate::backend::Backend;
use crate::guest::{Guest, wait_until};
use crate::http::{Client, get};
use crate::process;
use crate::registry::{Case, Suite};
use libc::{SIGTERM, SIGUSR2};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: guest\r\n\r\n";

pub fn suite() -> Suite {
    Suite {
        name: "scheduling",
        cases: vec![
            Case::each("a_second_thread_only_while_the_guest_computes", watcher),
            Case::each("a_host_without_room_for_a_watcher", no_room),
            Case::each("a_held_guest_does_not_run_and_misses_nothing", held),
            Case::each("a_held_guest_that_computes_goes_on", held_computing),
            Case::each("a_held_guest_can_be_ended", held_and_ended),
            Case::each("deep_idleness_is_told_and_so_is_its_end", deep),
            Case::each("a_guest_that_never_sleeps_serves_and_keeps_busy", never_sleeps),
            Case::each("a_guest_that_is_awaited_serves", awaited),
            Case::each("the_weight_is_a_nice_value", weight),
            Case::each("a_guest_that_burns_quanta_loses_precedence", precedence),
            Case::each("other_quanta_and_windows", quanta),
        ],
    }
}

fn threads(guest: &Guest) -> usize {
    process::threads(guest.pid()).len()
}

fn spinning(backend: Backend) -> Guest {
    let guest = backend.probe("spin").start();
    guest.wait_for("ready");
    guest
}

/// Ends a guest that does not listen.
fn end(mut guest: Guest) {
    guest.signal_until_it_ends(SIGTERM);
    assert_eq!(guest.finish().status, 128 + SIGTERM);
}

fn watcher(backend: Backend) {
    let guest = spinning(backend);
    wait_until("a computing guest is watched", || threads(&guest) == 2);
    guest.signal(SIGUSR2);
    wait_until("one that is held is not", || threads(&guest) == 1);
    guest.signal(SIGUSR2);
    wait_until("it is again", || threads(&guest) == 2);
    end(guest);
}

/// Sets how many descriptors a process may have, below its hard limit.
fn limit_descriptors(pid: u32, most: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = pid as libc::pid_t;
    // SAFETY: the structure is valid for both calls, which read and change a limit of our own child.
    let set = unsafe {
        libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit);
        limit.rlim_cur = most.min(limit.rlim_max);
        libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
    };
    assert_eq!(set, 0, "the limit of a child can be set");
}

fn no_room(backend: Backend) {
    let guest = spinning(backend);
    wait_until("a computing guest is watched", || threads(&guest) == 2);
    guest.signal(SIGUSR2);
    wait_until("a held guest is not watched", || threads(&guest) == 1);
    limit_descriptors(guest.pid(), 3);
    guest.signal(SIGUSR2);
    let before = cpu(&guest);
    wait_until("it computes nevertheless", || cpu(&guest) >= before + 20);
    assert_eq!(threads(&guest), 1, "unwatched");
    limit_descriptors(guest.pid(), 1024);
    wait_until("it is watched when there is room again", || threads(&guest) == 2);
    end(guest);
}

/// Where a guest that tells programs has published its port.
fn published(guest: &Guest) -> SocketAddr {
    guest.wait_for("\"published\"");
    let output = guest.stdout();
    let line = output.lines().find(|line| line.contains("\"published\"")).expect("the event");
    let event: Value = serde_json::from_str(line).expect("an event");
    event["host"].as_str().and_then(|host| host.parse().ok()).expect("an address")
}

fn held(backend: Backend) {
    let guest = backend.web().json().start();
    let address = published(&guest);
    assert_eq!(get(address, "/").status, 200);
    guest.signal(SIGUSR2);
    guest.wait_for("\"held\"");
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.send(REQUEST));
    let before = process::cpu_ticks(guest.pid());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!clients.iter().any(Client::has_bytes), "a held guest answers nobody");
    assert!(process::cpu_ticks(guest.pid()) - before <= 1, "and costs nothing");
    guest.signal(SIGUSR2);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    guest.wait_for("\"released\"");
}

fn held_computing(backend: Backend) {
    let guest = spinning(backend);
    for _ in 0..3 {
        guest.signal(SIGUSR2);
        wait_until("it is held", || is_still(guest.pid()));
        guest.signal(SIGUSR2);
        let before = cpu(&guest);
        wait_until("it computes", || cpu(&guest) > before);
    }
    end(guest);
}

/// Ticks of the monitor and of the process that executes the guest.
fn cpu(guest: &Guest) -> u64 {
    let children = process::children(guest.pid());
    children.into_iter().chain([guest.pid()]).map(process::cpu_ticks).sum()
}

/// Whether the process sleeps without being woken.
fn is_still(pid: u32) -> bool {
    let switches = || process::status(pid, "voluntary_ctxt_switches");
    let before = switches();
    std::thread::sleep(Duration::from_millis(20));
    process::status(pid, "State").starts_with('S') && switches() == before
}

fn held_and_ended(backend: Backend) {
    let mut guest = backend.probe("wait-stop").json().start();
    guest.wait_for("ready");
    guest.signal(SIGUSR2);
    guest.wait_for("\"held\"");
    guest.signal_until_it_ends(SIGTERM);
    assert_eq!(guest.finish().status, 128 + SIGTERM);
}

fn deep(backend: Backend) {
    let guest = backend.web().json().set("idle.deep_after=50ms").start();
    let address = published(&guest);
    guest.wait_for("{\"event\":\"idle\"}");
    assert!(!guest.stdout().contains("awake"), "{}", guest.stdout());
    assert_eq!(get(address, "/").status, 200);
    guest.wait_for("{\"event\":\"awake\"}");
    wait_until("it is deeply idle again", || {
        guest.stdout().matches("{\"event\":\"idle\"}").count() >= 2
    });
}

fn never_sleeps(backend: Backend) {
    let guest = backend.web().set("idle.sleep=false").start();
    let address = guest.address();
    assert_eq!(get(address, "/").status, 200);
    let before = process::cpu_ticks(guest.pid());
    wait_until("it keeps busy", || process::cpu_ticks(guest.pid()) >= before + 20);
    assert_eq!(get(address, "/").status, 200);
    guest.signal(SIGTERM);
    assert_eq!(guest.finish().status, 0, "signals are seen");
}

fn awaited(backend: Backend) {
    let guest = backend.web().set("idle.spin=1ms").start();
    let mut client = Client::connect(guest.address());
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 200);
    }
}

/// The nice value of a process.
fn nice(pid: u32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields = text.rsplit_once(") ").expect("a name in parentheses").1;
    fields.split(' ').nth(16).and_then(|field| field.parse().ok()).expect("a nice value")
}

fn weight(backend: Backend) {
    let own = nice(std::process::id());
    for (weight, steps) in [(100, 0), (50, 3), (1, 19)] {
        let run = backend.probe("wait-stop").set(format!("cpu.weight={weight}"));
        let guest = run.start();
        guest.wait_for("ready");
        for pid in process::children(guest.pid()).into_iter().chain([guest.pid()]) {
            assert_eq!(nice(pid), (own + steps).min(19), "weight {weight}");
        }
    }
}

/// The slice that a process asks the host's scheduler for, in ns, where the host tells it.
fn slice(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/sched")).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.slice"))?;
    line.rsplit_once(':')?.1.trim().parse().ok()
}

fn precedence(backend: Backend) {
    let web = backend.web().start();
    assert_eq!(get(web.address(), "/").status, 200);
    let spinning = spinning(backend);
    let Some(usual) = slice(std::process::id()) else { return end(spinning) };
    // Before Linux 6.12 all have the same.
    if slice(web.pid()) != Some(usual) {
        wait_until("its slices are longer than usual", || slice(spinning.pid()) > Some(usual));
        for child in process::children(spinning.pid()) {
            wait_until("the guest's process's too", || slice(child) > Some(usual));
        }
        wait_until("the web server idles", || slice(web.pid()) < Some(usual));
    }
    end(spinning);
}

fn quanta(backend: Backend) {
    for (quantum, window) in [("100us", "0"), ("10ms", "\"100us\""), ("1ms", "\"100ms\"")] {
        let run = backend.probe("upcall-resume").json();
        let run = run.set(format!("cpu.quantum={quantum}"));
        let finished = run.set(format!("interrupts.window={window}")).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let last = finished.stdout.lines().last().expect("an event");
        let ended: Value = serde_json::from_str(last).expect("an event");
        let counters = &ended["counters"];
        assert!(counters["batch_size"]["p50"].is_u64(), "{ended:#}");
        assert!(counters["time_held_ns"]["p99"].is_u64(), "{ended:#}");
    }
}
