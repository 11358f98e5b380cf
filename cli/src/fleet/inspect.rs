//! `denali inspect`: all that is known of a guest of the supervisor.

use super::connect;
use super::text::{bytes, clean, count, desired, now_ms, span, state, time};
use crate::arguments::GuestArguments;
use crate::output::{Failure, Format, print, print_json};
use crate::table::Table;
use denali_client::{GuestView, Inspection};

/// Shows it.
pub(crate) fn inspect(arguments: &GuestArguments) -> Result<(), Failure> {
    let found = connect(&arguments.supervisor)?.inspect(&arguments.name)?;
    match arguments.supervisor.format.format() {
        // An inspection is plain data: turning it into JSON cannot fail.
        Format::Json => print_json(&serde_json::to_value(&found).unwrap_or_default()),
        Format::Human => print(&format_args!(
            "{}\nconfiguration:\n{:#}",
            table(&found, now_ms()),
            found.configuration
        )),
    }
}

fn table(found: &Inspection, now: u64) -> Table {
    let mut table = Table::default();
    let mut row = |name: &str, value: &str| table.row([name, &clean(value)]);
    let GuestView { name, id, tenant, image, note, .. } = &found.guest;
    row("name", name);
    row("id", id);
    row("tenant", tenant);
    row("state", &doing(&found.guest, now));
    if let Some(note) = note {
        row("note", note);
    }
    if let Some(address) = found.guest.address {
        row("address", &address.to_string());
    }
    row("image", &format!("{image} (SHA-256 {})", found.image_hash));
    if let Some(template) = &found.template {
        row("copy of", template);
    }
    row("memory", &memory(found));
    row("parked", &parked(found, now));
    row("counts", &counts(&found.guest, now));
    let places = [("log", &found.log), ("control", &found.control), ("console", &found.console)];
    for (what, place) in places {
        row(what, place.as_deref().unwrap_or("none"));
    }
    table
}

fn doing(guest: &GuestView, now: u64) -> String {
    let since = span(now.saturating_sub(guest.since_ms));
    let process = guest.pid.map_or_else(String::new, |pid| format!(", as process {pid}"));
    let (state, meant) = (state(guest.state), desired(guest.desired));
    format!(
        "{state} for {since} (since {} UTC){process}; meant to be {meant}",
        time(guest.since_ms)
    )
}

fn memory(found: &Inspection) -> String {
    let most = bytes(found.guest.memory_bytes);
    match found.resident_bytes {
        Some(resident) => format!("{most}, its monitor has {}", bytes(resident)),
        None => most,
    }
}

fn parked(found: &Inspection, now: u64) -> String {
    if found.sequence == 0 {
        return "never".into();
    }
    let wakes = found.deadline_ms.map_or_else(String::new, |at| match at.checked_sub(now) {
        Some(left) => format!(", its timer goes off in {}", span(left)),
        None => ", its timer has gone off".into(),
    });
    format!("{} in its region, as state {}{wakes}", bytes(found.guest.stored_bytes), found.sequence)
}

fn counts(guest: &GuestView, now: u64) -> String {
    let (wakes, restarts, packets) =
        (count(guest.wakes), count(guest.restarts), count(guest.packets));
    let active = guest
        .active_ms
        .map_or_else(String::new, |at| format!(", the last {} ago", span(now.saturating_sub(at))));
    format!("{wakes} wakes, {restarts} restarts, {packets} packets{active}")
}
