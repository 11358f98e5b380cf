//! `denali create`: the supervisor makes guests, of a configuration or as copies.

use super::connect;
use super::outcome::{self, Verb};
use super::progress::Progress;
use crate::arguments::{CreateArguments, read};
use crate::output::Failure;
use denali_abi::status::{BAD_ARGUMENTS, BAD_IMAGE, HOST_LACKS, MONITOR_FAILED};
use denali_client::Create;
use denali_config::check_name;
use denali_launcher::Snapshot;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Has guests made, and shows what became of each.
pub(crate) fn create(arguments: &CreateArguments) -> Result<(), Failure> {
    check_name(&arguments.name)
        .map_err(|why| Failure::new(BAD_ARGUMENTS, format!("the guest's name {why}")))?;
    let create = Create {
        name: arguments.name.clone(),
        count: arguments.count,
        configuration: configuration(arguments)?,
        template: arguments.from.as_deref().map(template).transpose()?,
        tenant: arguments.tenant.clone(),
        start: arguments.start,
        on_demand: arguments.on_demand,
    };
    let client = connect(&arguments.supervisor)?;
    let format = arguments.supervisor.format.format();
    let verb = Verb { doing: "creating", done: "created" };
    let progress = Progress::new(format, verb.doing, Some(create.count.into()));
    let outcomes = client.create(&create)?;
    match outcome::show(outcomes, verb, format, &progress)? {
        0 => Err(Failure::new(MONITOR_FAILED, "the supervisor did not say what became of it")),
        _ => Ok(()),
    }
}

/// The configuration as it is sent: checked, and the same wherever it is read. A copy that is changed in nothing
/// has its template's.
fn configuration(arguments: &CreateArguments) -> Result<Option<Value>, Failure> {
    let changes = &arguments.changes;
    let document = match (&arguments.target, &arguments.from) {
        (Some(target), _) => read(target)?,
        (None, Some(_)) if changes.is_empty() => return Ok(None),
        (None, from) => {
            Snapshot::open(from.as_deref().unwrap_or(Path::new("")))?.configuration()?
        }
    };
    let document = changes.apply(document)?;
    document.guest()?;
    let portable = document.portable()?;
    let value = serde_json::from_str(&portable)
        .map_err(|error| Failure::new(MONITOR_FAILED, format!("cannot be sent: {error}")))?;
    Ok(Some(value))
}

fn template(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::new(HOST_LACKS, format!("--from {}: {error}", path.display())))?;
    if absolute.is_file() {
        return Ok(absolute);
    }
    let text = format!("--from {}: there is no such snapshot; check the path", path.display());
    Err(Failure::new(BAD_IMAGE, text))
}
