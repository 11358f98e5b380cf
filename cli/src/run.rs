//! `denali run`: opens what the guest needs and becomes its monitor.

use crate::arguments::RunArguments;
use crate::devices::suffix;
use crate::output::{Failure, Format, print, say};
use denali_images::BUILT_IN;
use denali_launcher::spec::OutputSpec;
use denali_launcher::{Launch, Published, Settings};
use denali_vmm::ClockStart;
use serde_json::json;
use std::path::Path;

/// Returns only if something the guest needs could not be opened.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let started = ClockStart::now();
    let format = arguments.format.format();
    let document = arguments.guest.document()?;
    let launch = Launch::prepare(
        &document,
        &Settings {
            output: match format {
                Format::Human => OutputSpec::Human,
                Format::Json => OutputSpec::Json,
            },
            report: arguments.report.as_deref(),
            ..Settings::new(&built_in(), Path::new(denali_images::BROKER_PATH))
        },
    )?;
    for notice in launch.notices() {
        say(notice);
    }
    for port in launch.published() {
        announce(port, format)?;
    }
    denali_vmm::run_to_end(launch.take_over(), started)
}

/// The built-in images as the launcher takes them.
pub(crate) fn built_in() -> Vec<(&'static str, &'static [u8])> {
    BUILT_IN.iter().map(|image| (image.name, image.bytes)).collect()
}

fn announce(port: &Published, format: Format) -> Result<(), Failure> {
    let Published { host, device, guest_port, protocol } = port;
    match format {
        Format::Human => {
            let by = suffix(*protocol);
            say(&format!("{host}{by} leads to port {guest_port} of the guest"));
            Ok(())
        }
        Format::Json => print(&json!({
            "event": "published",
            "host": host.to_string(),
            "device": device,
            "guest_port": guest_port,
            "protocol": protocol.to_string(),
        })),
    }
}
