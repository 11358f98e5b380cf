//! `denali status`: how guests are.

use super::{ask, refused, size};
use crate::arguments::StatusArguments;
use crate::output::{Failure, Format, print, print_json, say};
use crate::table::Table;
use denali_control::{Life, Request, Status, Told};
use serde_json::{Value, json};
use std::path::Path;

/// Asks each guest, and shows what they answer; fails as the first does that gives no answer.
pub(crate) fn status(arguments: &StatusArguments) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut failure = None;
    for path in &arguments.sockets {
        match status_of(path) {
            Ok(status) => found.push((path.as_path(), status)),
            Err(failed) if failure.is_none() => failure = Some(failed),
            Err(failed) => say(failed.message()),
        }
    }
    match arguments.format.format() {
        Format::Json => print_json(&Value::Array(found.iter().map(as_json).collect()))?,
        Format::Human if found.is_empty() => {}
        Format::Human => print(&table(&found))?,
    }
    failure.map_or(Ok(()), Err)
}

fn status_of(path: &Path) -> Result<Status, Failure> {
    match ask(path, &Request::Status {}, None)? {
        Told::Status(status) => Ok(status),
        other => Err(refused(path, other)),
    }
}

fn as_json((path, status): &(&Path, Status)) -> Value {
    // A status is plain data: turning it into JSON cannot fail.
    let mut value = serde_json::to_value(status).unwrap_or_default();
    value["socket"] = json!(path.display().to_string());
    value
}

fn table(found: &[(&Path, Status)]) -> Table {
    let mut table = Table::default();
    table.row(["NAME", "STATE", "IN MEMORY", "IN REGION", "SWAPPED OUT", "WOKEN", "FAULTS"]);
    for (_, status) in found {
        let state = match status.life {
            Life::Running => "running",
            Life::Held => "held",
            Life::SwappedOut => "swapped out",
            Life::Parked => "parked",
        };
        table.row([
            status.name.clone(),
            state.into(),
            size(status.resident_pages),
            size(status.stored_pages),
            status.swapped_out.to_string(),
            status.woken.to_string(),
            status.faults.to_string(),
        ]);
    }
    table
}
