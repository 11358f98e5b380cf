//! `denali doctor`: what this host lacks for guests, and what is not safe about it.

mod host;
mod limits;
mod swap;

use crate::output::{Failure, Format, print, print_json};
use crate::table::Table;
use denali_abi::status::HOST_LACKS;
use serde_json::{Value, json};

/// How good it is what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// As it should be.
    Good,
    /// Something works less well, or is less safe.
    Warning,
    /// Something cannot work.
    Severe,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Severe => "severe",
        }
    }
}

/// Something that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// What was found, and what to do about it; one line.
    text: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { what, verdict, text: text.into() }
    }
}

/// Looks at the host, and says what it found; fails if something is severe.
pub(crate) fn doctor(format: Format) -> Result<(), Failure> {
    let findings: Vec<Finding> =
        host::look().into_iter().chain(swap::look()).chain(limits::look()).collect();
    match format {
        Format::Human => {
            let mut table = Table::default();
            for Finding { what, verdict, text } in &findings {
                table.row([what, verdict.name(), text]);
            }
            print(&table)?;
        }
        Format::Json => print_json(&Value::Array(findings.iter().map(as_json).collect()))?,
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Severe).count() {
        0 => Ok(()),
        1 => Err(Failure::new(HOST_LACKS, "something is severe; see above")),
        count => Err(Failure::new(HOST_LACKS, format!("{count} things are severe; see above"))),
    }
}

fn as_json(finding: &Finding) -> Value {
    json!({"what": finding.what, "verdict": finding.verdict.name(), "text": finding.text})
}
