//! What happens to a guest while its memory is out: it is woken for all that is for it, once, and for nothing else.

use crate::backend::Backend;
use crate::guest::{Guest, wait_until};
use crate::home::Home;
use crate::lines::Lines;
use crate::process;
use crate::registry::Case;
use denali_control::Life;
use serde_json::json;
use std::net::UdpSocket;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("what_comes_while_memory_is_out_wakes_the_guest_once", datagrams),
        Case::each("timers_go_off_while_memory_is_out", timers),
        Case::each("what_is_for_nobody_wakes_nobody", nobody),
        Case::each("a_guest_that_is_out_stops_when_asked", stops),
        Case::each("a_guest_that_is_out_is_ended_by_a_second_signal", ended),
        Case::each("a_guest_that_is_out_is_held_and_released", held),
        Case::each("a_monitor_that_was_stopped_goes_on", stopped),
    ]
}

fn datagrams(backend: Backend) {
    const AT_ONCE: u8 = 12;
    const ROUNDS: u64 = 5;
    let home = Home::new(1);
    let mut configuration = home.probe("udp-echo 5000");
    configuration["net"][0]["backend"]["user"]["publish"] = json!(["0:5000/udp"]);
    let (guest, address) = home.start_as(backend, &configuration);
    let control = home.control();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address of this host");
    socket.set_read_timeout(Some(crate::guest::PATIENCE)).expect("a time-out");
    for round in 1..=ROUNDS {
        let out = control.out();
        guest.signal(libc::SIGSTOP);
        wait_until("the monitor is stopped", || process::is_stopped(guest.pid()));
        for number in 0..AT_ONCE {
            socket.send(&[round as u8, number]).expect("the host takes it");
        }
        guest.signal(libc::SIGCONT);
        for number in 0..AT_ONCE {
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).expect("an answer");
            assert_eq!(answer[..length], [round as u8, number], "in order");
        }
        assert_eq!(control.status().woken, out.woken + 1);
    }
    guest.signal(libc::SIGTERM);
    let end = guest.finish().end();
    let frames = u64::from(AT_ONCE) * ROUNDS;
    assert_eq!(end["devices"]["net0"]["bytes_to_guest"], 2 * frames);
    let batches = end["counters"]["batches"].as_u64().expect("a number");
    assert!(batches < frames / 2, "{end:#}");
}

/// The numbers of the last line that starts with `tick`.
fn last_tick(guest: &Guest) -> Option<[u64; 4]> {
    let output = guest.stdout();
    let line = output.lines().rev().find_map(|line| Some(line.split_once("tick due=")?.1))?;
    let mut numbers = line.split(['=', ' ', '\\']).filter_map(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?])
}

fn timers(backend: Backend) {
    let home = Home::new(1);
    let guest = home.run(backend, &home.probe("tick-report 250")).json().start();
    let control = home.control();
    let mut last = 0;
    for _ in 0..4 {
        wait_until("the guest's timer", || last_tick(&guest).is_some_and(|tick| tick[0] > last));
        let [due, now, ..] = last_tick(&guest).expect("it was awaited");
        assert!(now >= due, "early: {}", guest.stdout());
        last = due;
        control.out();
    }
    wait_until("the guest's timer", || last_tick(&guest).is_some_and(|tick| tick[0] > last));
    let [.., generation] = last_tick(&guest).expect("it was awaited");
    assert!(generation >= 5, "each time it was woken: {}", guest.stdout());
}

/// A monitor that is asked how its guest is does not wake it, nor does one that is told to tell its counters.
fn nobody(backend: Backend) {
    let home = Home::new(1);
    let (guest, _) = home.start(backend, "memory-hash 1");
    let control = home.control();
    control.swap_out();
    for _ in 0..5 {
        assert_eq!(home.control().status().life, Life::SwappedOut);
        guest.signal(libc::SIGUSR1);
    }
    wait_until("counters are told", || guest.stdout().contains(r#""event":"counters""#));
    control.swap_out();
    let status = control.status();
    assert_eq!((status.life, status.swapped_out, status.woken), (Life::SwappedOut, 1, 0));
}

fn stops(backend: Backend) {
    for (arguments, status) in [("wait-stop", 3), ("memory-hash 2", 0)] {
        let home = Home::new(1);
        let (guest, _) = home.start(backend, arguments);
        home.control().swap_out();
        guest.signal(libc::SIGTERM);
        let finished = guest.finish();
        assert_eq!(finished.status, status, "{finished:?}");
        assert_eq!(finished.end()["reason"], "terminated");
    }
}

/// It need not come back for that.
fn ended(backend: Backend) {
    let home = Home::new(1);
    let (mut guest, _) = home.start(backend, "memory-hash 1");
    home.control().swap_out();
    guest.signal(libc::SIGUSR2);
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    assert_eq!(finished.status, 143, "{finished:?}");
    assert_eq!(finished.end()["reason"], "signalled");
}

fn held(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start(backend, "memory-hash 1");
    let control = home.control();
    let mut lines = Lines::connect(address);
    let before = lines.check();
    // One that is out is held, and one that is held leaves.
    for out_first in [true, false] {
        if out_first {
            control.out();
        }
        let holds = || guest.stdout().matches(r#""event":"held""#).count();
        let before_it = holds();
        guest.signal(libc::SIGUSR2);
        wait_until("it is held", || holds() > before_it);
        control.swap_out();
        let out = control.status();
        lines.say("check");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(control.status(), out, "a guest that is held has no use for its memory");
        guest.signal(libc::SIGUSR2);
        assert!(lines.hear().ends_with(&before.sum));
    }
}

fn stopped(backend: Backend) {
    let home = Home::new(1);
    let (guest, address) = home.start(backend, "memory-hash 1");
    let control = home.control();
    let mut lines = Lines::connect(address);
    let before = lines.check();
    control.out();
    guest.signal(libc::SIGSTOP);
    wait_until("the monitor is stopped", || process::is_stopped(guest.pid()));
    lines.say("check");
    guest.signal(libc::SIGCONT);
    assert!(lines.hear().ends_with(&before.sum));
}
