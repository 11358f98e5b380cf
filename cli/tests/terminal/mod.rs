//! Commands for guests of a supervisor at a terminal: a pseudo-terminal of these tests' own.

use crate::scripted::{Supervisor, guest, host, inspection, outcome, stream, whole};
use crate::support::{denali, folder};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

/// What stands on a terminal when its program has ended.
const END: &str = "<end>";

/// A program at a terminal, and what it has written there.
struct Seat {
    ended: JoinHandle<ExitStatus>,
    keys: File,
    /// The program's side of the terminal.
    terminal: OwnedFd,
    written: String,
}

impl Seat {
    /// Starts the program with these arguments.
    fn new(arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let side = || Stdio::from(slave.try_clone().unwrap());
        let mut command = denali();
        command.args(arguments).stdin(side()).stdout(side()).stderr(side());
        command.env("TERM", "xterm-256color");
        let mut child = command.spawn().unwrap();
        let mut terminal = File::from(slave.try_clone().unwrap());
        // A terminal that is still open does not tell that the program has ended.
        let ended = thread::spawn(move || {
            let status = child.wait().unwrap();
            terminal.write_all(END.as_bytes()).unwrap();
            status
        });
        Self { ended, keys: master.into(), terminal: slave, written: String::new() }
    }

    /// Waits until the program has written `text`.
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.written.contains(text) {
            assert!(!self.written.contains(END), "no {text:?} in {:?}", self.written);
            match self.keys.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.written.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                end => panic!("{end:?} instead of {text:?} after {:?}", self.written),
            }
        }
    }

    /// Types.
    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether the terminal takes whole lines and shows what is typed, as it does for a shell.
    fn is_usual(&self) -> bool {
        let flags = tcgetattr(&self.terminal).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// Waits for the program's end, and what it wrote until then.
    fn end(mut self) -> (ExitStatus, String) {
        self.wait_for(END);
        (self.ended.join().unwrap(), self.written)
    }
}

#[test]
fn a_picture_changes_until_somebody_leaves() {
    let sample =
        |name: &str| [whole("200 OK", &host(1, 1)), stream([guest(name, "running").to_string()])];
    let answers = [sample("web-1"), sample("QUXYZ")].concat();
    let supervisor = Supervisor::new(folder(), "terminal-top.sock", answers);
    let mut seat = Seat::new(&["top", "--socket", "terminal-top.sock"]);
    seat.wait_for("web-1");
    assert!(!seat.is_usual(), "keys are not shown");
    seat.wait_for("QUXYZ");
    // What is shown is old once the supervisor has ended, and stays.
    supervisor.requests();
    seat.wait_for("OLD");
    seat.press("/x");
    seat.wait_for("/x_");
    seat.press("\rq");
    seat.wait_for("\x1b[?1049l");
    seat.wait_for(END);
    assert!(seat.is_usual(), "{}", seat.written);
    assert!(seat.end().0.success());
}

#[test]
fn a_console_is_left_by_a_key() {
    let path = folder().join("console-of-guest.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let of_guest = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"login: ").unwrap();
        let mut typed = String::new();
        stream.read_to_string(&mut typed).unwrap();
        typed
    });
    let answer = whole("200 OK", &inspection("db", Some(&path), None));
    let _supervisor = Supervisor::new(folder(), "terminal-console.sock", vec![answer]);
    let mut seat = Seat::new(&["console", "db", "--socket", "terminal-console.sock"]);
    seat.wait_for("Ctrl-] leaves");
    seat.wait_for("login: ");
    assert!(!seat.is_usual());
    // Ctrl-C is the guest's, and nothing behind the key that leaves is.
    seat.press("root\r\x03\x1dnot this");
    seat.wait_for("left the console");
    assert!(seat.is_usual());
    let (status, written) = seat.end();
    assert!(status.success(), "{written}");
    let typed = of_guest.join().unwrap();
    assert_eq!(typed, "root\r\x03");
}

#[test]
fn long_work_shows_how_far_it_is_and_leaves_one_line() {
    let guests = (0..300).map(|number| guest(&format!("web-{number}"), "running").to_string());
    let outcomes = (0..300).map(|number| {
        outcome(&format!("web-{number}"), (number % 100 == 0).then_some((124, "no room")))
    });
    let answers = vec![stream(guests), stream(outcomes)];
    let supervisor = Supervisor::new(folder(), "terminal-park.sock", answers);
    let seat = Seat::new(&["park", "web-*", "--socket", "terminal-park.sock"]);
    let (status, written) = seat.end();
    assert_eq!(status.code(), Some(124), "{written}");
    assert!(written.contains("parking [") && written.contains("/300"), "{written}");
    let left = written.rsplit("\x1b[2K").next().unwrap();
    let lines: Vec<&str> = left.lines().collect();
    assert!(lines[0].starts_with("parked 297 of 300 guests"), "{left}");
    assert_eq!(lines[1], "denali: web-0: no room");
    assert_eq!(lines[4], "denali: 3 guests could not be parked");
    assert_eq!(supervisor.requests()[0], "GET /v1/guests?name=web-%2A");
}
