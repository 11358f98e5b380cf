//! `denali swap-out`: the memory of a guest that idles leaves.

use super::{ask, refused, size};
use crate::arguments::MonitorArguments;
use crate::fleet::control_socket;
use crate::output::{Failure, Format, print, print_json};
use denali_control::{Request, Told};
use serde_json::json;

/// Has the guest's memory leave, and says how much of it is in its region then.
pub(crate) fn swap_out(arguments: &MonitorArguments) -> Result<(), Failure> {
    let path = &control_socket(&arguments.target, &arguments.supervisor)?;
    match ask(path, &Request::SwapOut {}, None)? {
        Told::SwappedOut { pages } => match arguments.supervisor.format.format() {
            Format::Human => print(&format_args!("swapped out: {} in its region", size(pages))),
            Format::Json => print_json(&json!({ "pages": pages })),
        },
        other => Err(refused(path, other)),
    }
}
