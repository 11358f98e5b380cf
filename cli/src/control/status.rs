//! `denali status`: how guests are.

use super::{ask, refused, size};
use crate::arguments::StatusArguments;
use crate::fleet::control_sockets;
use crate::output::{Failure, Format, print, print_json, say};
use crate::table::Table;
use denali_control::{Life, Request, Status, Told};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Asks each guest, and shows what they answer; fails as the first does that gives no answer.
pub(crate) fn status(arguments: &StatusArguments) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut failure = None;
    let mut failed = |failed: Failure| match failure {
        None => failure = Some(failed),
        Some(_) => say(failed.message()),
    };
    for target in &arguments.targets {
        let sockets = control_sockets(target, &arguments.supervisor);
        for socket in sockets.unwrap_or_else(|failure| vec![Err(failure)]) {
            let status = socket.and_then(|socket| Ok((status_of(&socket)?, socket)));
            match status {
                Ok((status, socket)) => found.push((socket, status)),
                Err(failure) => failed(failure),
            }
        }
    }
    match arguments.supervisor.format.format() {
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

fn as_json((path, status): &(PathBuf, Status)) -> Value {
    // A status is plain data: turning it into JSON cannot fail.
    let mut value = serde_json::to_value(status).unwrap_or_default();
    value["socket"] = json!(path.display().to_string());
    value
}

fn table(found: &[(PathBuf, Status)]) -> Table {
    let mut table = Table::default();
    table.row(["NAME", "STATE", "IN MEMORY", "IN REGION", "SWAPPED OUT", "WOKEN", "FAULTS"]);
    for (_, status) in found {
        let state = match status.life {
            Life::Running => "running",
            Life::Held if status.limit_reached.is_some() => "held by its limit",
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
