//! What clients send: bodies of bounded size, JSON whose errors name the field, and queries.

use crate::check;
use crate::failure::{Failure, WRONG, line};
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use denali_client::{Act, Create};
use serde::de::DeserializeOwned;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

/// Most fields of a query.
const FIELDS: usize = 1024 + 8;

/// The bytes of a body, if they are no more than `limit` and come in time.
pub(crate) async fn body(body: Body, limit: usize, within: Duration) -> Result<Vec<u8>, Failure> {
    match tokio::time::timeout(within, gather(body, limit)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            WRONG,
            "the request's body took too long",
        )),
    }
}

async fn gather(mut body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let too_large = || {
        let message = format!("the request's body is larger than {} KiB", limit >> 10);
        Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, WRONG, &message))
    };
    if body.size_hint().lower() > limit as u64 {
        return too_large();
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame =
            frame.map_err(|_| Failure::bad_request("the request's body ends before its end"))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return too_large();
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Reads a request to create guests.
///
/// # Errors
/// One line that names the field.
pub fn read_create(text: &[u8]) -> Result<Create, String> {
    let read = parse(text).and_then(|create| check::create(&create).map(|()| create));
    read.map_err(|wrong| line(&wrong))
}

/// Reads a request to have guests do something.
///
/// # Errors
/// One line that names the field.
pub fn read_act(text: &[u8]) -> Result<Act, String> {
    let read = parse(text).and_then(|act| check::act(&act).map(|()| act));
    read.map_err(|wrong| line(&wrong))
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // A question mark stands for a field that was not there yet.
        match path.trim_end_matches('?').trim_end_matches('.') {
            "" => format!("the request: {}", error.inner()),
            path => format!("{path}: {}", error.inner()),
        }
    })?;
    deserializer.end().map_err(|error| format!("the request: {error}"))?;
    Ok(value)
}

/// Reads a query, the part of an address behind `?`: its fields must be among `known`. A field without `=`
/// is empty.
///
/// # Errors
/// One line that names the field.
pub fn read_query(query: &str, known: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&key.as_ref()) {
            let start: String = key.chars().take(64).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(format!("{start:?} is no field of this query; there are: {known}"));
        }
        if fields.len() == FIELDS {
            return Err(format!("the query has more than {FIELDS} fields"));
        }
        fields.push((key.into_owned(), value.into_owned()));
    }
    Ok(fields)
}

/// A query's fields, taken one by one.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let fields = read_query(query.unwrap_or_default(), known);
        fields.map(Self).map_err(|wrong| Failure::bad_request(&wrong))
    }

    /// All values of a field that are patterns of names.
    pub(crate) fn patterns(&self, key: &str) -> Result<Vec<String>, Failure> {
        let values = self.0.iter().filter(|(field, _)| field == key);
        let patterns: Vec<_> = values.map(|(_, value)| value.clone()).collect();
        check::patterns(key, &patterns).map_err(|wrong| Failure::bad_request(&wrong))?;
        Ok(patterns)
    }

    /// The value of a field that may come once.
    pub(crate) fn one(&self, key: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.0.iter().filter(|(field, _)| field == key);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Failure::bad_request(&format!("{key}: is there twice"))),
            (value, None) => Ok(value.map(|(_, value)| value.as_str())),
        }
    }

    /// The value of a field that is a number of at least 1 and at most `max`.
    pub(crate) fn number(&self, key: &str, max: u64) -> Result<Option<u64>, Failure> {
        let Some(text) = self.one(key)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
            _ => Err(Failure::bad_request(&format!("{key}: is not a number from 1 to {max}"))),
        }
    }

    /// Whether a field is there, alone, as `true` or as `1`.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Failure> {
        match self.one(key)? {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Failure::bad_request(&format!("{key}: is neither true nor false"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("", "the request: EOF"),
            ("[]", "the request: invalid length 0"),
            ("{", "the request: EOF"),
            (r#"{"action": "stop", "guests": ["a"]} x"#, "the request: trailing characters"),
            (r#"{"action": "stop"}"#, "the request: missing field `guests`"),
            (r#"{"action": "explode", "guests": ["a"]}"#, "action: unknown variant `explode`"),
            (r#"{"action": "stop", "guests": ["a", 4]}"#, "guests[1]: invalid type: integer `4`"),
            (
                r#"{"action": "stop", "guests": ["a", "b/c"]}"#,
                "guests[1]: \"b/c\" is not a pattern",
            ),
            (r#"{"action": "stop", "guests": ["a"], "x": 1}"#, "x: unknown field `x`"),
            (r#"{"action": "stop", "action": "park", "guests": ["a"]}"#, "the request: duplicate"),
        ] {
            let wrong = read_act(text.as_bytes()).unwrap_err();
            assert!(wrong.starts_with(message), "{text}: {wrong}");
        }
        let deep = format!(r#"{{"name": "a", "configuration": {}"#, "[".repeat(10_000));
        assert!(read_create(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn queries_have_known_fields() {
        let known = &["name", "limit", "follow"];
        let query = Query::read(Some("name=a*&name=b%2D1&limit=3&follow"), known).unwrap();
        assert_eq!(query.patterns("name").unwrap(), ["a*", "b-1"]);
        assert_eq!(query.number("limit", 10).unwrap(), Some(3));
        assert!(query.flag("follow").unwrap());
        assert!(query.one("name").is_err(), "is there twice");
        assert!(query.number("limit", 2).is_err());
        assert!(query.flag("limit").is_err());
        let none = Query::read(None, known).unwrap();
        assert_eq!(none.number("limit", 10).unwrap(), None);
        assert!(!none.flag("follow").unwrap());
        let wrong = Query::read(Some("nme=a"), known).err().unwrap();
        assert!(wrong.problem.message.starts_with("\"nme\" is no field"), "{wrong:?}");
        assert!(read_query(&"name=a&".repeat(FIELDS + 1), known).is_err());
        let slash = Query::read(Some("name=..%2Fa"), known).unwrap();
        assert!(slash.patterns("name").is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_refused_in_a_line(text in any::<Vec<u8>>(), query in ".*") {
            let wrong = [
                read_create(&text).err(),
                read_act(&text).err(),
                read_query(&query, &["name"]).err(),
            ];
            for wrong in wrong.into_iter().flatten() {
                prop_assert!(!wrong.contains(char::is_control), "{wrong:?}");
            }
        }

        #[test]
        fn what_is_taken_has_names_only(name in "[a.*/-]{0,3}", guest in "[a.*/-]{0,3}") {
            let text = format!(r#"{{"name": "{name}", "template": "/t"}}"#);
            let taken = read_create(text.as_bytes()).is_ok();
            prop_assert_eq!(taken, crate::name_is_wrong(&name).is_none());
            let text = format!(r#"{{"action": "wake", "guests": ["{guest}"]}}"#);
            let taken = read_act(text.as_bytes()).is_ok();
            prop_assert_eq!(taken, crate::pattern_is_wrong(&guest).is_none());
        }
    }
}
