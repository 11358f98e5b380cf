//! `denali start`, `stop`, `park`, `wake`, `remove`: guests of the supervisor are to do something.

use super::connect;
use super::outcome::{self, Verb};
use super::progress::Progress;
use super::target::nobody;
use crate::arguments::SupervisorArguments;
use crate::output::{Failure, Format};
use denali_client::{Act, Action, Client};

/// Has the guests that `patterns` name do it, and shows what became of each.
pub(crate) fn act(
    action: Action,
    patterns: &[String],
    arguments: &SupervisorArguments,
) -> Result<(), Failure> {
    let client = connect(arguments)?;
    let format = arguments.format.format();
    let verb = verb(action);
    let total = total(&client, patterns, format)?;
    let progress = Progress::new(format, verb.doing, total);
    let act = Act { action, guests: patterns.to_vec() };
    let outcomes = client.act(&act)?;
    match outcome::show(outcomes, verb, format, &progress)? {
        0 => Err(nobody(patterns)),
        _ => Ok(()),
    }
}

/// How many guests there are to wait for, if anybody wants to know.
fn total(client: &Client, patterns: &[String], format: Format) -> Result<Option<u64>, Failure> {
    if !Progress::is_wanted(format) {
        return Ok(None);
    }
    let mut total = 0;
    for guest in client.list(patterns)? {
        guest?;
        total += 1;
    }
    Ok(Some(total))
}

fn verb(action: Action) -> Verb {
    let (doing, done) = match action {
        Action::Start => ("starting", "started"),
        Action::Stop => ("stopping", "stopped"),
        Action::Park => ("parking", "parked"),
        Action::Wake => ("waking", "woken"),
        Action::Remove => ("removing", "removed"),
    };
    Verb { doing, done }
}
