//! Console devices: on the terminal, on files, on a socket.

use crate::backend::Backend;
use crate::guest::{Guest, wait_until};
use crate::registry::{Case, Suite};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "console_device",
        cases: vec![
            Case::each("lines_of_the_terminal_are_answered", terminal),
            Case::each("programs_see_output_as_events", events),
            Case::each("output_in_bulk_is_whole", bulk),
            Case::each("a_slow_reader_gets_everything", slow_reader),
            Case::each("a_slow_reader_does_not_keep_the_monitor", stuck_reader),
            Case::each("files_are_read_and_appended_to", files),
            Case::each("a_socket_talks_with_one_after_the_other", socket),
            Case::each("input_in_bulk_is_whole", input),
        ],
    }
}

const TERMINAL: &str = r#"console=[{"backend":"terminal"}]"#;

/// What the guest writes in bulk.
fn letters(count: usize) -> Vec<u8> {
    (0..count).map(|n| b'a' + (n % 26) as u8).collect()
}

fn terminal(backend: Backend) {
    let mut guest = backend.probe("console-echo").set(TERMINAL).with_input().start();
    guest.wait_for("ready");
    guest.write("hello\n");
    guest.wait_for("you said: hello\n");
    guest.write("two\nlin");
    guest.wait_for("you said: two\n");
    guest.write("es\nquit\n");
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let expected = "ready\nyou said: hello\nyou said: two\nyou said: lines\nyou said: quit\n";
    assert_eq!(finished.stdout, expected);
}

fn events(backend: Backend) {
    let mut guest = backend.probe("console-echo").set(TERMINAL).json().with_input().start();
    guest.wait_for("ready");
    guest.write("\"ü\"\nquit\n");
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let (mut text, mut lines) = (String::new(), 0);
    for line in finished.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("each line is an event");
        if event["device"] == "console0" {
            assert_eq!(event["event"], "console");
            text.push_str(event["text"].as_str().expect("text"));
            lines += 1;
        }
    }
    assert!(lines > 0);
    assert_eq!(text, "you said: \"ü\"\nyou said: quit\n");
}

fn bulk(backend: Backend) {
    let output = backend.probe("console-bulk 3000000").set(TERMINAL).expect(0);
    assert!(output.as_bytes() == letters(3_000_000), "{} bytes differ", output.len());
}

fn slow_reader(backend: Backend) {
    let mut guest = backend.probe("console-bulk 500000").set(TERMINAL).unread().start();
    let mut stdout = guest.take_stdout();
    let (mut output, mut buffer) = (Vec::new(), [0; 8 << 10]);
    loop {
        // Slower than the guest writes: its pipe is full all the time.
        std::thread::sleep(Duration::from_millis(2));
        match stdout.read(&mut buffer).expect("the pipe can be read") {
            0 => break,
            count => output.extend_from_slice(&buffer[..count]),
        }
    }
    assert_eq!(guest.finish().status, 0);
    assert!(output == letters(500_000), "{} bytes differ", output.len());
}

/// Nobody reads; the monitor still serves its guest's network, and stops when it is told to.
fn stuck_reader(backend: Backend) {
    let mut guest = backend.probe("console-bulk 100000000").set(TERMINAL).unread().start();
    let mut stdout = guest.take_stdout();
    stdout.read_exact(&mut [0; 10]).expect("the guest writes");
    guest.signal_until_it_ends(libc::SIGTERM);
    let status = guest.finish().status;
    assert!(status == 143 || status == 0, "{status}");
}

fn files(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("input"), folder.path().join("output"));
    fs::write(&input, "one\ntwo\nquit\n").expect("a file");
    fs::write(&output, "before\n").expect("a file");
    let console =
        format!(r#"console=[{{"backend":{{"file":{{"input":{input:?},"output":{output:?}}}}}}}]"#);
    backend.probe("console-echo").set(&console).expect(0);
    let text = fs::read_to_string(&output).expect("the output");
    assert_eq!(text, "before\nyou said: one\nyou said: two\nyou said: quit\n");
}

/// A guest with a console on a socket in `folder`.
fn on_socket(backend: Backend, arguments: &str, path: &Path) -> Guest {
    let console = format!(r#"console=[{{"backend":{{"socket":{path:?}}}}}]"#);
    backend.probe(arguments).set(&console).start()
}

fn connect(path: &Path) -> UnixStream {
    wait_until("the monitor listens", || path.exists());
    let stream = UnixStream::connect(path).expect("the monitor listens");
    stream.set_read_timeout(Some(crate::guest::PATIENCE)).expect("a timeout can be set");
    stream
}

/// Asks, and reads the answer.
fn ask(stream: &mut UnixStream, line: &str) {
    stream.write_all(format!("{line}\n").as_bytes()).expect("the console takes input");
    let expected = format!("you said: {line}\n");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

fn socket(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("console");
    let guest = on_socket(backend, "console-echo", &path);
    guest.wait_for("ready");
    for name in ["first", "second"] {
        let mut stream = connect(&path);
        ask(&mut stream, name);
        ask(&mut stream, "again");
    }
    let mut last = connect(&path);
    ask(&mut last, "quit");
    assert_eq!(guest.finish().status, 0);
}

fn input(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("console");
    let guest = on_socket(backend, "console-count 1000000", &path);
    guest.wait_for("ready");
    let mut stream = connect(&path);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&bytes).expect("the console takes input");
    let finished = guest.finish();
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.stdout.contains(&format!("bytes=1000000\nsum={sum}\n")), "{finished:?}");
}
