//! Time inside a guest: timers are never early and come in order, and the clock only goes forward, wherever the
//! monitor runs, and after it was stopped.

use crate::backend::Backend;
use crate::guest::Guest;
use crate::process::children;
use crate::registry::{Case, Suite};
use std::time::{Duration, Instant, SystemTime};

pub fn suite() -> Suite {
    Suite {
        name: "time",
        cases: vec![
            Case::each("timers_of_all_periods_are_never_early", periods),
            Case::each("timers_come_in_the_order_of_their_deadlines", order),
            Case::each(
                "the_clock_goes_forward_while_the_monitor_moves_between_processors",
                migration,
            ),
            Case::each("the_clock_goes_on_while_the_monitor_is_stopped", stopped),
            Case::each(
                "a_timer_that_was_due_while_the_monitor_was_stopped_comes_once",
                due_meanwhile,
            ),
        ],
    }
}

/// The value in a line `name=value`.
#[track_caller]
fn value(output: &str, name: &str) -> u64 {
    let found = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {output}"))
}

/// The host's wall time in ns.
fn wall_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as u64
}

/// Asserts that the wall time a guest printed lies between two of the host's. Either may be adjusted
/// meanwhile, by far less than a second.
#[track_caller]
fn assert_wall_time(output: &str, before: u64) {
    const SLACK: u64 = 1_000_000_000;
    let (shown, after) = (value(output, "realtime"), wall_time());
    assert!((before - SLACK..after + SLACK).contains(&shown), "{before} {shown} {after}");
}

fn periods(backend: Backend) {
    let output = backend.probe("timers 2").expect(0);
    for (period, count) in [(1, 2000), (10, 200), (1000, 2)] {
        let line = format!("timer period_ms={period} count={count} late_us_p50=");
        assert!(output.lines().any(|shown| shown.starts_with(&line)), "{output}");
    }
}

fn order(backend: Backend) {
    backend.probe("timer-order 500").expect(0);
}

/// Processors this process may use.
fn processors() -> Vec<usize> {
    // SAFETY: the set is plain memory, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid during the call, and its size is right.
    let got = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    assert_eq!(got, 0, "every process has a set of processors");
    // SAFETY: reads a bit of the set; the numbers are within it.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// A process and all that it has started.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    all.extend(children(pid).into_iter().flat_map(family));
    all
}

/// Moves every thread of a process and of those it has started to one processor.
fn move_to(pid: u32, processor: usize) {
    // SAFETY: the set is plain memory, for which zero is valid; the number came from such a set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        set
    };
    for process in family(pid) {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
        let ids = threads.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
        for thread in ids.collect::<Vec<libc::pid_t>>() {
            // SAFETY: the set is valid during the call. A thread that has ended meanwhile is nobody's loss.
            unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &raw const set) };
        }
    }
}

fn watch(backend: Backend) -> Guest {
    let guest = backend.probe("clock-watch").start();
    guest.wait_for("ready");
    guest
}

/// Ends a guest that watches the clock; it must have found nothing wrong.
#[track_caller]
fn assert_watched(guest: Guest, before: u64) {
    guest.signal(libc::SIGTERM);
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert!(value(&finished.stdout, "readings") > 0);
    assert_wall_time(&finished.stdout, before);
}

fn migration(backend: Backend) {
    let (guest, before) = (watch(backend), wall_time());
    let processors = processors();
    for round in 0..300 {
        move_to(guest.pid(), processors[round % processors.len()]);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_watched(guest, before);
}

/// Stops the monitor for a while; for how long it was so at least.
fn stop(guest: &Guest, time: Duration) -> Duration {
    guest.signal(libc::SIGSTOP);
    let start = Instant::now();
    std::thread::sleep(time);
    let stopped = start.elapsed();
    guest.signal(libc::SIGCONT);
    stopped
}

fn stopped(backend: Backend) {
    let (guest, before) = (watch(backend), wall_time());
    for _ in 0..5 {
        stop(&guest, Duration::from_millis(200));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_watched(guest, before);
}

fn due_meanwhile(backend: Backend) {
    let before = wall_time();
    let guest = backend.probe("clock-stopped 300").start();
    guest.wait_for("ready");
    let stopped = stop(&guest, Duration::from_millis(600));
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    let passed = Duration::from_micros(value(&finished.stdout, "passed_us") + 1);
    // Up to its first correction, the guest's clock may be off by a percent.
    assert!(passed >= stopped * 98 / 100, "{passed:?} {stopped:?}");
    assert_wall_time(&finished.stdout, before);
}
