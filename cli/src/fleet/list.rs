//! `denali list`: guests of the supervisor, a line each.

use super::connect;
use super::text::{bytes, clean, count, desired, now_ms, span, state};
use crate::arguments::ListArguments;
use crate::output::{Failure, Format, print, say};
use crate::table::Table;
use denali_client::{GuestState, GuestView};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Lists the guests that were asked for.
pub(crate) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let states: Vec<GuestState> = arguments.state.iter().map(|&state| state.into()).collect();
    let wanted = |guest: &GuestView| {
        (states.is_empty() || states.contains(&guest.state))
            && arguments.tenant.as_ref().is_none_or(|tenant| *tenant == guest.tenant)
    };
    let client = connect(&arguments.supervisor)?;
    let mut guests = Vec::new();
    for guest in client.list(&arguments.guests)? {
        let guest = guest?;
        if wanted(&guest) {
            guests.push(guest);
        }
    }
    guests.sort_by(|one, other| natural(&one.name, &other.name));
    match arguments.supervisor.format.format() {
        Format::Json => print_lines(&guests),
        Format::Human if guests.is_empty() => {
            say("there is no such guest");
            Ok(())
        }
        Format::Human => print(&table(&guests, now_ms())),
    }
}

/// All in one piece of text: there may be very many.
fn print_lines(guests: &[GuestView]) -> Result<(), Failure> {
    let mut text = String::new();
    for guest in guests {
        // A guest is plain data: turning it into JSON cannot fail. Nor can writing to a string.
        let _ = writeln!(text, "{}", serde_json::to_value(guest).unwrap_or_default());
    }
    match text.trim_end() {
        "" => Ok(()),
        text => print(&text),
    }
}

fn table(guests: &[GuestView], now: u64) -> Table {
    // Guests of others, and guests that are not what they are meant to be, are worth a column.
    let tenants = guests.iter().any(|guest| guest.tenant != "default");
    let mut table = Table::default();
    let mut header = vec![
        "NAME", "STATE", "MEANT", "SINCE", "ADDRESS", "MEMORY", "STORED", "WAKES", "PACKETS",
        "ACTIVE",
    ];
    table.align_right(5..9);
    if tenants {
        header.push("TENANT");
    }
    header.extend(["IMAGE", "NOTE"]);
    table.cells(header);
    for guest in guests {
        table.cells(row(guest, now, tenants));
    }
    table
}

fn row(guest: &GuestView, now: u64, tenants: bool) -> Vec<String> {
    let mut cells = vec![
        clean(&guest.name),
        state(guest.state).into(),
        desired(guest.desired).into(),
        span(now.saturating_sub(guest.since_ms)),
        guest.address.map_or_else(|| "-".into(), |address| address.to_string()),
        bytes(guest.memory_bytes),
        bytes(guest.stored_bytes),
        count(guest.wakes),
        count(guest.packets),
        guest.active_ms.map_or_else(|| "-".into(), |at| span(now.saturating_sub(at))),
    ];
    if tenants {
        cells.push(clean(&guest.tenant));
    }
    cells.push(clean(&guest.image));
    cells.push(guest.note.as_deref().map(clean).unwrap_or_default());
    cells
}

/// Names in the order in which people count: `web-2` before `web-10`.
pub(crate) fn natural(one: &str, other: &str) -> Ordering {
    let (mut one_rest, mut other_rest) = (one, other);
    loop {
        let (one_text, one_number, one_next) = piece(one_rest);
        let (other_text, other_number, other_next) = piece(other_rest);
        let order = one_text.cmp(other_text).then_with(|| numeric(one_number, other_number));
        if order != Ordering::Equal {
            return order;
        }
        if one_next.is_empty() || other_next.is_empty() {
            // What is the same but for zeros in front of its numbers is not the same.
            return one_next.len().cmp(&other_next.len()).then_with(|| one.cmp(other));
        }
        (one_rest, other_rest) = (one_next, other_next);
    }
}

/// The text at the front, the number behind it, and the rest.
fn piece(text: &str) -> (&str, &str, &str) {
    let is_digit = |c: char| c.is_ascii_digit();
    let digits = text.find(is_digit).unwrap_or(text.len());
    let (before, rest) = text.split_at(digits);
    let end = rest.find(|c| !is_digit(c)).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    (before, number, rest)
}

/// Numbers of any length, by their digits.
fn numeric(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_in_which_people_count() {
        let mut names = ["web-10", "web-2", "web", "a9b", "a10a", "web-02", "web-2-1", "web-1", ""];
        names.sort_by(|one, other| natural(one, other));
        let sorted = ["", "a9b", "a10a", "web", "web-1", "web-02", "web-2", "web-2-1", "web-10"];
        assert_eq!(names, sorted);
        let huge = ["9".repeat(40), "1".repeat(41)];
        assert_eq!(natural(&huge[0], &huge[1]), Ordering::Less);
    }
}
