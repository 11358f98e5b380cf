//! Runs the `denali` program in a folder of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A folder for the files of these tests, made anew for each run of them.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// The program under test.
pub(crate) fn denali() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_denali"));
    command.current_dir(folder());
    command
}

/// A file with this content in the folder.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, content).unwrap();
    path
}

/// Runs the program with these arguments, and this on its standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = denali();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Runs the program with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_with_input(arguments, b"")
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that the program refuses the arguments with this status and one line on standard error
/// that contains `message`.
pub(crate) fn assert_refused(arguments: &[&str], status: u8, message: &str) {
    let output = run(arguments);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(status.into()), "{arguments:?} says {line}");
    assert!(line.starts_with("denali: ") && line.ends_with('\n'), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(message), "{arguments:?} says {line:?}, not {message:?}");
    assert!(output.stdout.is_empty(), "{}", stdout(&output));
}
