//! `denali run`: opens what the guest needs and becomes its monitor.

use crate::arguments::RunArguments;
use crate::output::{Failure, Format, print, say};
use denali_images::{BUILT_IN, MONITOR_PATH};
use denali_launcher::spec::OutputSpec;
use denali_launcher::{Launch, Published, Settings, find_monitor};
use serde_json::json;
use std::path::Path;

/// Returns only if the guest could not be started.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let format = arguments.format.format();
    let document = arguments.guest.document()?;
    let launch = Launch::prepare(
        &document,
        &Settings {
            built_in: &built_in(),
            monitor: find_monitor(Path::new(MONITOR_PATH))?,
            output: match format {
                Format::Human => OutputSpec::Human,
                Format::Json => OutputSpec::Json,
            },
            report: arguments.report.as_deref(),
        },
    )?;
    for notice in launch.notices() {
        say(notice);
    }
    for port in launch.published() {
        announce(port, format)?;
    }
    Err(launch.exec().into())
}

/// The built-in images as the launcher takes them.
pub(crate) fn built_in() -> Vec<(&'static str, &'static [u8])> {
    BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect()
}

fn announce(port: &Published, format: Format) -> Result<(), Failure> {
    let Published { host, device, guest_port } = port;
    match format {
        Format::Human => {
            say(&format!("{host} leads to port {guest_port} of the guest"));
            Ok(())
        }
        Format::Json => print(&json!({
            "event": "published",
            "host": host.to_string(),
            "device": device,
            "guest_port": guest_port,
        })),
    }
}
