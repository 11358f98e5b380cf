//! What became of a request for many guests, in few lines.

use super::progress::Progress;
use super::refused;
use super::text::{clean, count, plural};
use crate::output::{Failure, Format, print, say};
use denali_client::{Error, Outcome, Problem};
use std::time::Instant;

/// Most failures that are told one by one.
const TOLD_MAX: usize = 5;

/// What is done to guests: `created` and the like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    /// `creating`.
    pub(super) doing: &'static str,
    /// `created`.
    pub(super) done: &'static str,
}

/// Counts outcomes as they come.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    failed: u64,
    /// The first failures, in the order in which they came.
    told: Vec<(String, Problem)>,
    /// A guest for which it was done.
    name: String,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome.error {
            None => {
                self.done += 1;
                self.name = outcome.name;
            }
            Some(problem) => {
                self.failed += 1;
                if self.told.len() < TOLD_MAX {
                    self.told.push((outcome.name, problem));
                }
            }
        }
    }

    fn all(&self) -> u64 {
        self.done + self.failed
    }
}

/// Shows what becomes of each guest: as objects for programs, summed up for people. Fails as the first guest does
/// that fails, or as the answer does.
pub(super) fn show(
    outcomes: impl Iterator<Item = Result<Outcome, Error>>,
    verb: Verb,
    format: Format,
    progress: &Progress,
) -> Result<u64, Failure> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut broken = None;
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => {
                if format == Format::Json {
                    print(&as_json(&outcome))?;
                }
                tally.add(outcome);
                progress.step(tally.failed);
            }
            Err(error) => broken = Some(error),
        }
    }
    progress.finish();
    if format == Format::Human && tally.done > 0 {
        print(&summary(&tally, verb, started.elapsed().as_secs_f64()))?;
    }
    if tally.failed > 1 {
        for (name, problem) in &tally.told {
            say(&named(name, &problem.message));
        }
    }
    match (failure(&tally, verb), broken) {
        (failed, Some(error)) => {
            if let Some(failed) = failed {
                say(failed.message());
            }
            Err(cut_off(&tally, error))
        }
        (Some(failed), None) => Err(failed),
        (None, None) => Ok(tally.all()),
    }
}

fn as_json(outcome: &Outcome) -> serde_json::Value {
    // An outcome is plain data: turning it into JSON cannot fail.
    serde_json::to_value(outcome).unwrap_or_default()
}

/// What was done, in a line.
fn summary(tally: &Tally, verb: Verb, seconds: f64) -> String {
    if tally.all() == 1 {
        return format!("{}: {}", clean(&tally.name), verb.done);
    }
    let of = match tally.failed {
        0 => String::new(),
        _ => format!(" of {}", count(tally.all())),
    };
    let rate = match tally.done as f64 / seconds {
        rate if seconds >= 0.1 => format!(" in {seconds:.1} s ({rate:.0}/s)"),
        _ => String::new(),
    };
    let guests = if tally.all() == 1 { "guest" } else { "guests" };
    format!("{} {}{of} {guests}{rate}", verb.done, count(tally.done))
}

/// The last line about failures, if there are any.
fn failure(tally: &Tally, verb: Verb) -> Option<Failure> {
    let (_, first) = tally.told.first()?;
    let with = |message: String| refused(&Problem { status: first.status, message });
    if let [(name, problem)] = &tally.told[..] {
        return Some(with(named(name, &problem.message)));
    }
    let more = match tally.failed - tally.told.len() as u64 {
        0 => String::new(),
        more => format!("; of these, {} more than are told here", count(more)),
    };
    let failed = plural(tally.failed, "guest");
    Some(with(format!("{failed} could not be {}{more}", verb.done)))
}

/// A message about a guest, which names it once.
fn named(name: &str, message: &str) -> String {
    let (name, message) = (clean(name), clean(message));
    if name.is_empty() || message.starts_with(&format!("{name}:")) {
        return message;
    }
    format!("{name}: {message}")
}

/// The failure of an answer that is not complete.
fn cut_off(tally: &Tally, error: Error) -> Failure {
    let failure = Failure::from(error);
    match tally.all() {
        0 => failure,
        told => failure.after(&format!("after {}", plural(told, "guest"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERB: Verb = Verb { doing: "parking", done: "parked" };

    fn tally(done: u64, failed: u64) -> Tally {
        let mut tally = Tally::default();
        for number in 0..done {
            tally.add(Outcome { name: format!("good-{number}"), error: None });
        }
        for number in 0..failed {
            let status = if number == 0 { 123 } else { 124 };
            let error = Some(Problem { status, message: format!("no {number}") });
            tally.add(Outcome { name: format!("bad-{number}"), error });
        }
        tally
    }

    #[test]
    fn what_was_done_is_one_line() {
        assert_eq!(summary(&tally(1, 0), VERB, 9.0), "good-0: parked");
        assert_eq!(summary(&tally(2, 0), VERB, 0.01), "parked 2 guests");
        assert_eq!(summary(&tally(10_000, 0), VERB, 4.0), "parked 10,000 guests in 4.0 s (2500/s)");
        assert_eq!(summary(&tally(1, 2), VERB, 0.0), "parked 1 of 3 guests");
    }

    #[test]
    fn failures_are_summed_up_with_the_status_of_the_first() {
        assert!(failure(&tally(3, 0), VERB).is_none());
        let one = failure(&tally(3, 1), VERB).unwrap();
        assert_eq!((one.status(), one.message()), (123, "bad-0: no 0"));
        let many = failure(&tally(0, 10_000), VERB).unwrap();
        assert_eq!(many.status(), 123);
        let expected = "10,000 guests could not be parked; of these, 9,995 more than are told here";
        assert_eq!(many.message(), expected);
        assert_eq!(tally(0, 10_000).told.len(), TOLD_MAX);
    }

    #[test]
    fn a_guest_is_named_once_and_says_nothing_to_the_terminal() {
        assert_eq!(named("a", "a: no room"), "a: no room");
        assert_eq!(named("a", "no\x1b[0m"), "a: no\u{fffd}[0m");
        assert_eq!(named("", "no"), "no");
    }
}
