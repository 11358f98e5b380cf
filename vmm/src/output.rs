//! What the monitor writes: the guest's console, events, messages; for people or as JSON lines.

use denali_launcher::spec::OutputSpec;
use denali_streams::Encoder;
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
    /// The console device it was, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
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
                let text = String::from_utf8_lossy(bytes);
                json_line(&ConsoleEvent { device: None, text }).into()
            }
        }
    }

    /// What makes the bytes to write of what the guest wrote to the console device `name`; `None` where
    /// they are the same.
    pub(crate) fn device_encoder(&self, name: &str) -> Option<Encoder> {
        if self.form == OutputSpec::Human {
            return None;
        }
        let name = name.to_owned();
        Some(Box::new(move |bytes| {
            json_line(&ConsoleEvent { device: Some(&name), text: String::from_utf8_lossy(bytes) })
        }))
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
        let encode = Output::new(OutputSpec::Json).device_encoder("console0").unwrap();
        let line = "{\"event\":\"console\",\"device\":\"console0\",\"text\":\"a\"}\n";
        assert_eq!(encode(b"a"), line.as_bytes());
        assert!(encode(&[1; 512]).len() <= 4096, "a line of output is written whole");
        assert!(Output::new(OutputSpec::Human).device_encoder("console0").is_none());
    }
}
