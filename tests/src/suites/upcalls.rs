//! Upcalls: a computation that is interrupted thousands of times computes what it does when left alone.

use crate::backend::Backend;
use crate::registry::{Case, Suite};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "upcalls",
        cases: vec![
            Case::each("all_registers_survive_two_thousand_upcalls", always),
            Case::each("deadlines_interrupt_a_guest_that_runs_once_each", deadlines),
            Case::each("what_arrives_interrupts_a_computation_and_leaves_it_exact", traffic),
            Case::each("a_program_ends_while_more_arrives", ends),
        ],
    }
}

/// Asserts that some millions of rounds were interrupted so often.
#[track_caller]
fn assert_interrupted(output: &str, count: u64) {
    let line = output.lines().find(|line| line.starts_with("rounds=")).unwrap_or_default();
    let numbers: Vec<u64> = line
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('=')?.1.parse().ok())
        .collect();
    assert!(numbers.len() == 2 && numbers[0] >= 1_000_000 && numbers[1] >= count, "{output}");
}

fn always(backend: Backend) {
    assert_interrupted(&backend.probe("upcall-exact 2000").expect(0), 2000);
}

fn deadlines(backend: Backend) {
    assert_interrupted(&backend.probe("upcall-deadline 200").expect(0), 200);
}

fn traffic(backend: Backend) {
    let run = backend.probe("upcall-traffic 7 1000").option("--publish").option("0:7");
    let mut guest = run.start();
    let address = guest.address();
    guest.wait_for("ready");
    let mut stream = TcpStream::connect(address).expect("the guest accepts");
    stream.set_nodelay(true).expect("a socket option");
    while guest.is_running() && stream.write_all(b"interrupt").is_ok() {
        std::thread::sleep(Duration::from_micros(300));
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert_interrupted(&finished.stdout, 1000);
}

/// What has arrived and nobody reads does not keep a program from ending.
fn ends(backend: Backend) {
    let run = backend.probe("upcall-traffic 7 1").option("--publish").option("0:7");
    let guest = run.start();
    let address = guest.address();
    guest.wait_for("ready");
    let mut stream = TcpStream::connect(address).expect("the guest accepts");
    // The guest ends with the connection open; what it does not take is an error then.
    let sender = std::thread::spawn(move || while stream.write_all(&[b'x'; 1 << 16]).is_ok() {});
    assert_eq!(guest.finish().status, 0);
    sender.join().expect("the sender does not panic");
}
