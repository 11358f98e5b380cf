//! The console: bytes come out whole and in order, whatever reads them.

use crate::backend::Backend;
use crate::registry::{Case, Suite};
use std::io::Read;
use std::time::Duration;

pub fn suite() -> Suite {
    Suite {
        name: "console",
        cases: vec![
            Case::each("greets", greets),
            Case::each("text_is_unchanged", text),
            Case::each("large_output_is_whole", large),
            Case::each("limits_of_one_doorbell", limits),
            Case::each("a_slow_reader_gets_everything", slow_reader),
            Case::each("a_reader_that_goes_away_ends_the_guest", closed_pipe),
        ],
    }
}

fn greets(backend: Backend) {
    let run = crate::guest::Run::new(backend, "hello").option("--arg").option("you");
    assert_eq!(run.expect(0), "hello from a Denali guest: you\n");
}

fn text(backend: Backend) {
    let text = "a  b \t ünïcödé \u{1f980} \"quoted\"";
    assert_eq!(backend.probe(&format!("print {text}")).expect(0), format!("{text}\n"));
}

fn flood(lines: u32) -> String {
    (0..lines).map(|line| format!("line {line}\n")).collect()
}

fn large(backend: Backend) {
    let output = backend.probe("console-flood 50000").expect(0);
    assert!(output == flood(50_000), "{} bytes differ", output.len());
}

fn limits(backend: Backend) {
    let output = backend.probe("console-empty").expect(0);
    assert_eq!(output, ".".repeat(64 << 10) + "\n");
}

fn slow_reader(backend: Backend) {
    let mut guest = backend.probe("console-flood 30000").unread().start();
    let mut stdout = guest.take_stdout();
    let mut output = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        // Slower than the guest writes: its pipe is full all the time.
        std::thread::sleep(Duration::from_millis(2));
        match stdout.read(&mut buffer).expect("the pipe can be read") {
            0 => break,
            count => output.extend_from_slice(&buffer[..count]),
        }
    }
    assert_eq!(guest.finish().status, 0);
    assert!(output == flood(30_000).as_bytes(), "{} bytes differ", output.len());
}

fn closed_pipe(backend: Backend) {
    let mut guest = backend.probe("console-flood 1000000").unread().start();
    let mut stdout = guest.take_stdout();
    stdout.read_exact(&mut [0; 100]).expect("the guest writes");
    drop(stdout);
    let finished = guest.finish();
    assert_eq!(finished.signal, Some(libc::SIGPIPE), "as for any program in a pipe: {finished:?}");
}
