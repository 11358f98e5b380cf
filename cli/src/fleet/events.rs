//! `denali events`: what happens to guests of the supervisor, as it happens.

use super::connect;
use super::text::{clean, micros, state, time};
use crate::arguments::EventsArguments;
use crate::output::{Failure, Format, print, say};
use denali_client::{Event, What};

/// Tells of events until the supervisor ends, or whoever reads has gone.
pub(crate) fn events(arguments: &EventsArguments) -> Result<(), Failure> {
    let format = arguments.supervisor.format.format();
    let client = connect(&arguments.supervisor)?;
    for event in client.events(arguments.pattern.as_deref())? {
        let event = event?;
        match format {
            // An event is plain data: turning it into JSON cannot fail.
            Format::Json => print(&serde_json::to_value(&event).unwrap_or_default())?,
            Format::Human => print(&line(&event))?,
        }
        if crate::output::nobody_reads() {
            return Ok(());
        }
    }
    say("the supervisor tells no more: it has ended");
    Ok(())
}

/// An event for people.
fn line(event: &Event) -> String {
    let what = match &event.what {
        What::Created {} => "created".into(),
        What::Removed {} => "removed".into(),
        What::State { state: now, why } if why.is_empty() => state(*now).into(),
        What::State { state: now, why } => format!("{} ({})", state(*now), clean(why)),
        What::Woken { micros: took } => format!("woken after {}", micros(*took)),
        What::Gate { decision } => format!("gate: {}", clean(decision)),
        What::Notice { message } => clean(message),
    };
    let who = if event.guest.is_empty() { "host".into() } else { clean(&event.guest) };
    format!("{}  {who}: {what}", time(event.at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_client::GuestState;

    #[test]
    fn an_event_is_a_line() {
        let told =
            |guest: &str, what| line(&Event { number: 1, at_ms: 1_500, guest: guest.into(), what });
        let state = What::State { state: GuestState::Parked, why: "idle\n".into() };
        assert_eq!(told("web-1", state), "1970-01-01 00:00:01.500  web-1: parked (idle\u{fffd})");
        let woken = told("web-1", What::Woken { micros: 1234 });
        assert_eq!(woken, "1970-01-01 00:00:01.500  web-1: woken after 1.2 ms");
        let gate = told("", What::Gate { decision: "3 wait".into() });
        assert_eq!(gate, "1970-01-01 00:00:01.500  host: gate: 3 wait");
    }
}
