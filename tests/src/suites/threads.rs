//! Threads of a guest: they are preempted, share what there is, and end as a program does.

use crate::backend::Backend;
use crate::registry::{Case, Suite};
use crate::suites::faults;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

pub fn suite() -> Suite {
    Suite {
        name: "threads",
        cases: vec![
            Case::each("threads_that_never_yield_take_turns_with_each_other_and_with_tasks", turns),
            Case::each("registers_and_control_words_are_each_threads_own", exact),
            Case::each("the_heap_is_whole_whoever_is_preempted", heap),
            Case::each("lines_are_whole_whoever_is_preempted", lines),
            Case::each("five_hundred_threads_wake_each_other", ring),
            Case::each("sleeping_threads_never_wake_early", sleep),
            Case::each("tasks_and_threads_wait_for_each_other", wake),
            Case::each("a_server_answers_while_threads_compute", serve),
            Case::each("a_thread_that_panics_ends_the_guest", panics),
            Case::each("a_thread_that_overflows_its_stack_ends_the_guest", overflows),
        ],
    }
}

#[track_caller]
fn run(backend: Backend, what: &str) -> String {
    backend.probe(&format!("threads {what}")).expect(0)
}

fn turns(backend: Backend) {
    let output = run(backend, "turns 30");
    assert!(output.starts_with("progress=["), "{output}");
}

fn exact(backend: Backend) {
    run(backend, "exact 8000000");
}

fn heap(backend: Backend) {
    run(backend, "heap 1000000");
}

/// Each thread's lines are all there, in order; those of different threads alternate as they like.
fn lines(backend: Backend) {
    let output = run(backend, "print 500");
    let mut count = BTreeMap::new();
    for line in output.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let next = count.entry(name).or_insert(0);
        assert_eq!(rest, format!("{next} {}", name.repeat(8)));
        *next += 1;
    }
    assert_eq!(count, BTreeMap::from([("a", 500), ("b", 500), ("c", 500)]));
}

fn ring(backend: Backend) {
    run(backend, "ring 500");
}

fn sleep(backend: Backend) {
    run(backend, "sleep 30");
}

fn wake(backend: Backend) {
    run(backend, "wake 100");
}

fn serve(backend: Backend) {
    let run = backend.probe("threads serve 7").option("--publish").option("0:7");
    let guest = run.start();
    let address = guest.address();
    guest.wait_for("ready");
    let mut stream = TcpStream::connect(address).expect("the guest accepts");
    for round in 0..100_u32 {
        let sent = round.to_le_bytes();
        stream.write_all(&sent).expect("the guest reads");
        let mut got = [0; 4];
        stream.read_exact(&mut got).expect("the guest answers");
        assert_eq!(got, sent);
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn panics(backend: Backend) {
    let output = backend.probe("threads panic").expect(101);
    assert!(output.contains("as asked, in a thread"), "{output}");
}

fn overflows(backend: Backend) {
    let report = faults::crash(backend, "threads overflow");
    assert_eq!(report["cause"]["kind"], "stack-overflow", "{report:#}");
    assert_eq!(report["cause"]["region"], "stack-guard", "{report:#}");
    let symbol = report["location"]["symbol"].as_str().unwrap_or_default();
    assert!(symbol.starts_with("probe::crashes::recurse"), "{report:#}");
}
