//! Signals to the monitor: the first asks the guest to stop, the second ends it.

use crate::backend::Backend;
use crate::guest::wait_until;
use crate::process;
use crate::registry::{Case, Need, Suite};
use libc::{SIGINT, SIGKILL, SIGTERM};
use std::io::Read;
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "signals",
        cases: vec![
            Case::each("sigint_asks_to_stop", |it| asks(it, SIGINT)),
            Case::each("sigterm_asks_to_stop", |it| asks(it, SIGTERM)),
            Case::each("a_library_os_stops_when_asked", web_stops),
            Case::each("a_computing_guest_goes_on_after_one", one_is_not_enough),
            Case::each("a_second_sigint_ends_with_130", |it| second(it, SIGINT, 130)),
            Case::each("a_second_sigterm_ends_with_143", |it| second(it, SIGTERM, 143)),
            Case::each("a_blocked_console_does_not_block_signals", blocked_console),
            Case::each("stop_and_continue_change_nothing", stop_and_continue),
            Case::each("nothing_is_left_of_a_killed_guest", killed).needs(Need::ProcessOnly),
            Case::each("a_guest_whose_process_is_killed", process_killed).needs(Need::ProcessOnly),
            Case::each("stray_signals_to_its_process", strays).needs(Need::ProcessOnly),
        ],
    }
}

fn asks(backend: Backend, signal: i32) {
    let guest = backend.probe("wait-stop").start();
    guest.wait_for("ready");
    guest.signal(signal);
    let finished = guest.finish();
    assert_eq!((finished.status, finished.signal), (3, None), "{finished:?}");
}

fn web_stops(backend: Backend) {
    let guest = backend.web().start();
    guest.wait_for("serving");
    guest.signal(SIGINT);
    assert_eq!(guest.finish().status, 0);
}

fn one_is_not_enough(backend: Backend) {
    let mut guest = backend.probe("spin").start();
    guest.wait_for("ready");
    guest.signal(SIGINT);
    std::thread::sleep(Duration::from_millis(200));
    assert!(guest.is_running(), "one signal is a request");
}

fn second(backend: Backend, signal: i32, status: i32) {
    let mut guest = backend.probe("spin").start();
    guest.wait_for("ready");
    guest.signal_until_it_ends(signal);
    let finished = guest.finish();
    assert_eq!((finished.status, finished.signal), (status, None), "{finished:?}");
}

fn blocked_console(backend: Backend) {
    let mut guest = backend.probe("console-flood 100000000").unread().start();
    let mut stdout = guest.take_stdout();
    stdout.read_exact(&mut [0; 10]).expect("the guest writes");
    guest.signal_until_it_ends(SIGTERM);
    assert_eq!(guest.finish().status, 143);
}

/// A monitor stopped by job control takes up where it was.
fn stop_and_continue(backend: Backend) {
    let guest = backend.probe("wait-stop").start();
    guest.wait_for("ready");
    for _ in 0..3 {
        guest.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(20));
        guest.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(20));
    }
    guest.signal(SIGTERM);
    assert_eq!(guest.finish().status, 3);
}

/// The process in which a guest runs ends with its monitor, however that ends.
fn killed(backend: Backend) {
    for command in ["spin", "wait-stop"] {
        let guest = backend.probe(command).start();
        guest.wait_for("ready");
        let children = process::children(guest.pid());
        assert_eq!(children.len(), 1, "{children:?}");
        guest.signal(SIGKILL);
        assert_eq!(guest.finish().signal, Some(SIGKILL));
        wait_until("its process is gone", || !process::exists(children[0]));
    }
}

/// Somebody of this user kills the process in which a guest runs: the guest has crashed.
fn process_killed(backend: Backend) {
    for command in ["spin", "wait-stop"] {
        let mut guest = backend.probe(command).start();
        guest.wait_for("ready");
        send(process::children(guest.pid())[0], SIGKILL);
        guest.signal_until_it_ends(SIGTERM);
        let finished = guest.finish();
        assert_eq!(finished.status, 121, "{finished:#?}");
        assert!(finished.stderr.contains("killed by signal 9"), "{finished:#?}");
    }
}

/// Other signals to it mean nothing.
fn strays(backend: Backend) {
    const LINES: u32 = 20_000;
    let mut guest = backend.probe(&format!("console-flood {LINES}")).start();
    guest.wait_for("line 10\n");
    let child = process::children(guest.pid()).first().copied();
    while guest.is_running() {
        for signal in [
            libc::SIGUSR1,
            SIGTERM,
            SIGINT,
            libc::SIGALRM,
            libc::SIGSEGV,
            libc::SIGTRAP,
            libc::SIGILL,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGSTOP,
            libc::SIGCONT,
        ] {
            child.into_iter().for_each(|child| send(child, signal));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let expected: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    assert!(finished.stdout == expected, "{} bytes differ", finished.stdout.len());
}

/// Sends a signal to a process of this user that may have ended.
fn send(pid: u32, signal: i32) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
