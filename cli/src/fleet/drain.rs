//! `denali drain`: all guests are parked, and the supervisor ends.

use super::connect;
use super::progress::Progress;
use super::text::plural;
use crate::arguments::DrainArguments;
use crate::output::{Failure, Format, print};
use denali_client::{Client, Error, GuestState, HostView};
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often is looked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Asks for it, and waits until it is done.
pub(crate) fn drain(arguments: &DrainArguments) -> Result<(), Failure> {
    let client = connect(&arguments.supervisor)?;
    let format = arguments.supervisor.format.format();
    let before = client.host()?;
    let total = in_memory(&before);
    client.drain()?;
    if arguments.no_wait {
        return told(format, total, None);
    }
    let started = Instant::now();
    let progress = Progress::new(format, "parking", Some(total));
    wait(&client, &before, &progress)?;
    drop(progress);
    told(format, total, Some(started.elapsed().as_secs_f64()))
}

/// Waits until the supervisor has ended, which it does when no guest is left in memory.
fn wait(client: &Client, before: &HostView, progress: &Progress) -> Result<(), Failure> {
    let total = in_memory(before);
    loop {
        match client.host() {
            Ok(host) if host.since_ms == before.since_ms => {
                progress.at(total.saturating_sub(in_memory(&host)));
            }
            // Who ends answers no more questions.
            Err(Error::Refused(_)) => {}
            // Another one has begun: this one has ended.
            Ok(_) | Err(Error::Absent { .. } | Error::Cut) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        sleep(LOOK);
    }
}

/// Guests that have a monitor.
fn in_memory(host: &HostView) -> u64 {
    let of = |state| host.guests.get(&state).copied().unwrap_or(0);
    [GuestState::Waking, GuestState::Running, GuestState::Parking].into_iter().map(of).sum()
}

fn told(format: Format, guests: u64, seconds: Option<f64>) -> Result<(), Failure> {
    let shown = plural(guests, "guest");
    match (format, seconds) {
        (Format::Json, _) => print(&json!({ "drained": seconds.is_some(), "guests": guests })),
        (Format::Human, None) => print(&format_args!("the supervisor parks {shown}, and ends")),
        (Format::Human, Some(seconds)) => {
            print(&format_args!("drained: {shown} left memory in {seconds:.1} s"))
        }
    }
}
