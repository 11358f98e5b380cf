//! What the monitor writes: the guest's console, events, messages; for people or as JSON lines.

use denali_launcher::spec::OutputSpec;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};

/// The monitor's standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    form: OutputSpec,
}

/// The guest wrote to its console; bytes that are not UTF-8 are replaced.
#[derive(Serialize)]
#[serde(tag = "event", rename = "console")]
struct ConsoleEvent<'a> {
    text: Cow<'a, str>,
}

impl Output {
    pub(crate) fn new(form: OutputSpec) -> Self {
        Self { form }
    }

    /// The bytes to write for what the guest wrote to its console.
    pub(crate) fn console<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.form {
            OutputSpec::Human => bytes.into(),
            OutputSpec::Json => {
                json_line(&ConsoleEvent { text: String::from_utf8_lossy(bytes) }).into()
            }
        }
    }

    /// Tells programs of an event; people are not bothered. A reader that is gone is no error.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if self.form == OutputSpec::Json {
            let _ = io::stdout().lock().write_all(&json_line(event));
        }
    }

    /// Tells people something; programs get it as an event.
    pub(crate) fn message(&self, text: &str) {
        if self.form == OutputSpec::Human {
            eprintln!("{text}");
        }
    }
}

fn json_line(event: &impl Serialize) -> Vec<u8> {
    // Events are plain data: turning them into JSON cannot fail.
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_output_is_raw_for_people_and_a_line_for_programs() {
        assert_eq!(&*Output::new(OutputSpec::Human).console(b"a\xff\n"), b"a\xff\n");
        let line = Output::new(OutputSpec::Json).console(b"a\n\"\xff").into_owned();
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text, "{\"event\":\"console\",\"text\":\"a\\n\\\"\u{fffd}\"}\n");
    }
}
