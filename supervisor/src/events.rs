//! What happens, as it happens.

use crate::failure::{Failure, typed};
use crate::feed::{self, LINES, Teller};
use crate::limits::EVENTS_WAITING;
use crate::request::Query;
use crate::server::Api;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use denali_client::{Event, What, fits};
use denali_keeper::{Order, Stream};
use std::sync::Arc;

/// Most patterns that events are compared with, on the keeper's thread.
const PATTERNS: usize = 16;

/// `GET /v1/events`
pub(crate) async fn listen(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::read(query.as_deref(), &["guest"])?;
    let patterns = query.patterns("guest")?;
    if patterns.len() > PATTERNS {
        return Err(Failure::bad_request(&format!("guest: more than {PATTERNS} patterns")));
    }
    let permit = api.listener()?;
    let (teller, events) = feed::pipe(EVENTS_WAITING, too_slow);
    api.engine.ask(Order::Listen(only(patterns, teller)))?;
    Ok(typed(StatusCode::OK, LINES, feed::lines(events, permit, api.stop.clone())))
}

/// Tells what is about guests whose names fit one of the patterns; all if there is none.
fn only(patterns: Vec<String>, mut teller: Teller<Event>) -> Stream<Event> {
    Box::new(move |event| {
        let wanted =
            patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, &event.guest));
        if wanted { teller.tell(event) } else { teller.is_heard() }
    })
}

/// The last line for a client that does not keep up; its number is that of the first event that is lost.
fn too_slow(lost: &Event) -> Event {
    let message = format!(
        "from this event on nothing is told, for {EVENTS_WAITING} events were waiting to be read; ask again"
    );
    Event { guest: String::new(), what: What::Notice { message }, ..lost.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, guest: &str) -> Event {
        Event { number, at_ms: 0, guest: guest.into(), what: What::Created {} }
    }

    #[test]
    fn patterns_choose_whom_is_heard_of() {
        let (teller, mut events) = feed::pipe(8, too_slow);
        let mut stream = only(vec!["web-*".into(), "db".into()], teller);
        for (number, guest) in [(1, "web-1"), (2, "game"), (3, "db"), (4, ""), (5, "db2")] {
            assert!(stream(event(number, guest)));
        }
        assert_eq!(events.blocking_recv().unwrap().number, 1);
        assert_eq!(events.blocking_recv().unwrap().number, 3);
        assert!(events.try_recv().is_err());
        drop(events);
        assert!(!stream(event(6, "game")), "nobody is there, which is seen though it is not told");
    }

    #[test]
    fn who_is_too_slow_is_told_where_the_gap_begins() {
        let (teller, mut events) = feed::pipe(1, too_slow);
        let mut stream = only(Vec::new(), teller);
        assert!(stream(event(7, "web")));
        assert!(!stream(event(8, "web")));
        assert_eq!(events.blocking_recv().unwrap().number, 7);
        let last = events.blocking_recv().unwrap();
        assert_eq!((last.number, last.guest.as_str()), (8, ""));
        assert!(matches!(last.what, What::Notice { .. }));
    }
}
