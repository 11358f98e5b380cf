//! What the program says: text for people, or one JSON object a line, and failures with their status.

use denali_launcher::LaunchError;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the reader of standard output has gone away.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Human,
    /// JSON for programs.
    Json,
}

impl Format {
    /// JSON if `json` is set.
    pub(crate) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Human }
    }
}

/// Why a command failed: one line, and the exit status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// A failure with a status of `denali_abi::status`.
    pub(crate) fn new(status: u8, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }

    /// The same, with what was done before.
    pub(crate) fn after(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The exit status.
    #[cfg(test)]
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// What failed, in one line.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says what failed, as `denali: …` on standard error, and as an event with JSON output.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        say(&self.message);
        if format == Format::Json {
            let event = json!({"event": "error", "message": self.message, "status": self.status});
            // What failed is said on standard error already.
            let _ = print(&event);
        }
        ExitCode::from(self.status)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::new(error.status(), error)
    }
}

impl From<denali_config::ConfigError> for Failure {
    fn from(error: denali_config::ConfigError) -> Self {
        Self::from(LaunchError::from(error))
    }
}

/// Writes one line `denali: …` on standard error.
pub(crate) fn say(message: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = io::stderr().write_all(format!("denali: {message}\n").as_bytes());
}

/// Writes a text and a line's end on standard output. A reader that has gone away, as `head` does,
/// is no failure.
pub(crate) fn print(text: &impl Display) -> Result<(), Failure> {
    match io::stdout().write_all(format!("{text}\n").as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure::new(
            denali_abi::status::HOST_LACKS,
            format_args!("standard output cannot be written: {error}"),
        )),
        Ok(()) => Ok(()),
    }
}

/// Whether what is printed is read by nobody any more: who only tells may stop.
pub(crate) fn nobody_reads() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Writes JSON on standard output, laid out for reading.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format_args!("{value:#}"))
}
