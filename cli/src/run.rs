//! `denali run`, `denali resume`: open what the guest needs and become its monitor.

use crate::arguments::{ResumeArguments, RunArguments, read};
use crate::devices::suffix;
use crate::output::{Failure, Format, print, say};
use denali_config::Document;
use denali_control::Parked;
use denali_images::BUILT_IN;
use denali_launcher::spec::OutputSpec;
use denali_launcher::{
    Launch, Published, Resume, SealedImage, Settings, Snapshot, SwapSpace, host_key,
};
use denali_swap::{Commit, GuestId, hex};
use denali_vmm::ClockStart;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Runs a guest, or a copy of one; returns only if something that it needs could not be opened.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let started = ClockStart::now();
    let snapshot = arguments.from.as_deref().map(Snapshot::open).transpose()?;
    let document = match (&arguments.target, &snapshot) {
        (None, Some(snapshot)) => snapshot.configuration()?,
        (target, _) => read(target.as_deref().unwrap_or_default())?,
    };
    let document = arguments.start.changes.apply(document)?;
    let document = match &snapshot {
        Some(snapshot) => snapshot.with_memory(&document)?,
        None => document,
    };
    let built_in = built_in();
    let (format, report) = (arguments.start.format.format(), arguments.start.report.as_deref());
    let settings = Settings {
        resume: snapshot.as_ref().map(Resume::Snapshot),
        ..settings(&built_in, format, report)
    };
    let (space, image) = parkable(&document, &built_in, snapshot.as_ref())?.unzip();
    let settings = Settings { space: space.as_ref(), image: image.as_ref(), ..settings };
    become_monitor(&document, &settings, format, None, started)
}

/// Continues a guest that was parked; returns only if something that it needs could not be opened.
pub(crate) fn resume(arguments: &ResumeArguments) -> Result<(), Failure> {
    let started = ClockStart::now();
    let (id, commit) = record(&arguments.record)?;
    let document = arguments.start.changes.apply(read(&arguments.target)?)?;
    let guest = document.guest()?;
    let key = host_key(&document, &guest)?;
    let space = SwapSpace::open(&document, &guest, id, key.as_ref())?;
    let built_in = built_in();
    let format = arguments.start.format.format();
    let settings = Settings {
        space: Some(&space),
        resume: Some(Resume::Parked(Some(commit))),
        ..settings(&built_in, format, arguments.start.report.as_deref())
    };
    become_monitor(&document, &settings, format, Some(commit), started)
}

/// Opens the rest and becomes the monitor. `known` is the state in the guest's space that it goes on from.
fn become_monitor(
    document: &Document,
    settings: &Settings<'_>,
    format: Format,
    known: Option<Commit>,
    started: ClockStart,
) -> Result<(), Failure> {
    let prepared = Launch::prepare(document, settings);
    let launch = prepared.inspect_err(|_| {
        if let (Some(space), None) = (settings.space, known) {
            // It was made for this alone; the error tells more than one about what is left behind would.
            let _ = space.remove();
        }
    })?;
    if let (Some(space), Some(swap)) = (settings.space, &document.guest()?.swap) {
        space.remove_unless_parked(swap)?;
    }
    for notice in launch.notices() {
        say(notice);
    }
    for port in launch.published() {
        announce(port, format)?;
    }
    denali_vmm::run_to_end(launch.take_over(), started)
}

fn settings<'a>(
    built_in: &'a [(&'a str, &'a [u8])],
    format: Format,
    report: Option<&'a Path>,
) -> Settings<'a> {
    let output = match format {
        Format::Human => OutputSpec::Human,
        Format::Json => OutputSpec::Json,
    };
    Settings { output, report, ..Settings::new(built_in, Path::new(denali_images::BROKER_PATH)) }
}

/// Where a guest goes that can be parked by a command and continued later: one with a control socket, and
/// the host's key.
fn parkable(
    document: &Document,
    built_in: &[(&str, &[u8])],
    snapshot: Option<&Snapshot>,
) -> Result<Option<(SwapSpace, SealedImage)>, Failure> {
    let guest = document.guest()?;
    let Some(key) = host_key(document, &guest)?.filter(|_| guest.control.is_some()) else {
        return Ok(None);
    };
    let image = match snapshot {
        Some(snapshot) => snapshot.image(None)?,
        None => SealedImage::new(&guest.image, document.origin("image"), built_in)?,
    };
    let id = GuestId::random().map_err(|error| {
        Failure::new(
            denali_abi::status::HOST_LACKS,
            format!("the host has no random bytes: {error}"),
        )
    })?;
    let space = SwapSpace::create(document, &guest, &image, id, Some(&key))?;
    Ok(Some((space, image)))
}

/// Reads what `denali park` wrote.
fn record(path: &Path) -> Result<(GuestId, Commit), Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        let text = format!("--record {}: {why}", path.display());
        Failure::new(denali_abi::status::BAD_CONFIG, text)
    };
    let text = fs::read(path).map_err(|error| refuse(&error))?;
    let parked: Parked = serde_json::from_slice(&text)
        .map_err(|error| refuse(&format_args!("is no record of a parked guest: {error}")))?;
    let commit = hex::decode(&parked.root)
        .map(|root| Commit { sequence: parked.sequence, root })
        .filter(|commit| commit.sequence > 0);
    match (parked.guest_id.parse(), commit) {
        (Ok(id), Some(commit)) => Ok((id, commit)),
        _ => Err(refuse(&"names no guest, or no state of one")),
    }
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
