//! `denali keep`: runs guests that are parked while they idle.

use crate::arguments::KeepArguments;
use crate::control::size;
use crate::output::{Failure, Format, print, say};
use crate::run::built_in;
use denali_abi::status::HOST_LACKS;
use denali_config::Document;
use denali_keeper::{Event, Keeper, Reason, Settings};
use denali_launcher::find_monitor;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::cell::RefCell;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Looks after the guests until all of them have ended, or it is asked to stop.
pub(crate) fn keep(arguments: &KeepArguments) -> Result<(), Failure> {
    raise_limit();
    let format = arguments.format.format();
    if let Some(logs) = &arguments.logs {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(logs);
        made.map_err(|error| {
            Failure::new(HOST_LACKS, format!("--logs {}: cannot be made: {error}", logs.display()))
        })?;
    }
    let built_in = built_in();
    let settings = Settings {
        built_in: &built_in,
        monitor: find_monitor(Path::new(denali_images::MONITOR_PATH))?,
        broker: Path::new(denali_images::BROKER_PATH),
        pool: arguments.pool,
        state: arguments.state.as_deref(),
        logs: arguments.logs.as_deref(),
        go_back: arguments.go_back,
    };
    let unprinted = RefCell::new(None);
    let tell = |event: &Event<'_>| {
        if let Err(failure) = tell(event, format) {
            *unprinted.borrow_mut() = Some(failure);
        }
    };
    let mut keeper = Keeper::new(settings, tell)?;
    for path in &arguments.guests {
        keeper.add(&Document::read(path)?)?;
    }
    keeper.run()?;
    unprinted.take().map_or(Ok(()), Err)
}

/// Many guests have many sockets: takes as many descriptors as this user may have.
pub(crate) fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With what there is, fewer guests can be kept, and the first one too many is told of.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Tells of an event: programs by a line of JSON, people by a line of text.
pub(crate) fn tell(event: &Event<'_>, format: Format) -> Result<(), Failure> {
    match format {
        // Events are plain data: turning them into JSON cannot fail.
        Format::Json => print(&serde_json::to_value(event).unwrap_or_default()),
        Format::Human => match event {
            Event::Notice { name: "", message } => {
                say(message);
                Ok(())
            }
            Event::Notice { name, message } => {
                say(&format!("{name}: {message}"));
                Ok(())
            }
            _ => print(&line(event)),
        },
    }
}

/// An event that is no notice, for people.
fn line(event: &Event<'_>) -> String {
    match event {
        Event::Published { name, host, guest_port, protocol, .. } => {
            let by = if protocol == "udp" { "/udp" } else { "" };
            format!("{name}: {host}{by} leads to its port {guest_port}")
        }
        Event::Started { name, pid } => format!("{name}: started, as process {pid}"),
        Event::Parked { name, pages, .. } => format!("{name}: parked, {}", size(*pages)),
        Event::NotParked { name, why } => format!("{name}: not parked: {why}"),
        Event::Waking { name, pid, because } => {
            let why = match because {
                Reason::Start => "it is to start",
                Reason::Arrival => "something came for it",
                Reason::Timer => "its timer went off",
                Reason::Command => "somebody asked for it",
                Reason::Stop => "it is to stop",
                Reason::Again => "once more",
            };
            format!("{name}: waking ({why}), as process {pid}")
        }
        Event::Woken { name, micros } => format!("{name}: woken after {micros} µs"),
        Event::Stopped { name, how } => format!("{name}: stopped: {how}"),
        Event::Ended { name, how, .. } => format!("{name}: ended: {how}"),
        Event::Notice { name, message } => format!("{name}: {message}"),
    }
}
