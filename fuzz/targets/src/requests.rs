//! Requests to a supervisor: bodies in JSON, queries, patterns of names.

use crate::memory::bounded;
use denali_client::{Act, Create, fits};
use denali_supervisor::{name_is_wrong, pattern_is_wrong, read_act, read_create, read_query};
use serde_json::to_vec;
use std::path::Component;

/// A request's body or query.
pub fn requests(bytes: &[u8]) {
    bounded(128 * bytes.len() + (256 << 10), || {
        match read_create(bytes) {
            Ok(create) => check_create(&create),
            Err(message) => says_one_line(&message),
        }
        match read_act(bytes) {
            Ok(act) => check_act(&act),
            Err(message) => says_one_line(&message),
        }
        if let Ok(query) = std::str::from_utf8(bytes) {
            match read_query(query, &["name", "guest", "limit"]) {
                Ok(fields) => fields.iter().for_each(|(_, value)| check_pattern(value)),
                Err(message) => says_one_line(&message),
            }
        }
    });
}

/// What is created has names that are names, of all guests, and a template that is where it says.
fn check_create(create: &Create) {
    let last = match create.count {
        1 => create.name.clone(),
        count => format!("{}-{count}", create.name),
    };
    for name in [&create.name, &last, &create.tenant] {
        assert_eq!(name_is_wrong(name), None, "{name:?}");
        assert!(!name.contains(['/', '\0', '*', '?']) && !name.starts_with('.'), "{name:?}");
        check_pattern(name);
    }
    assert!(create.configuration.is_some() || create.template.is_some());
    if let Some(template) = &create.template {
        let up = template.components().any(|part| part == Component::ParentDir);
        assert!(template.is_absolute() && !up, "{template:?}");
    }
    let text = to_vec(create).expect("requests can be written");
    assert_eq!(read_create(&text).as_ref(), Ok(create));
}

fn check_act(act: &Act) {
    assert!(!act.guests.is_empty());
    for pattern in &act.guests {
        assert_eq!(pattern_is_wrong(pattern), None, "{pattern:?}");
    }
    act.guests.iter().take(16).for_each(|pattern| check_pattern(pattern));
    let text = to_vec(act).expect("requests can be written");
    assert_eq!(read_act(&text).as_ref(), Ok(act));
}

/// Patterns fit what is made of them.
fn check_pattern(pattern: &str) {
    if pattern_is_wrong(pattern).is_some() {
        return;
    }
    assert!(fits("*", pattern) && fits(pattern, pattern), "{pattern}");
    assert!(fits(pattern, &pattern.replace('*', "").replace('?', "x")), "{pattern}");
    assert!(fits(pattern, &pattern.replace('*', "ab").replace('?', "*")), "{pattern}");
    if name_is_wrong(pattern).is_none() {
        assert!(!fits(pattern, &format!("{pattern}x")), "a name fits itself alone: {pattern}");
    }
}

fn says_one_line(message: &str) {
    assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 1024, "a message of {} bytes", message.len());
}

/// One of each.
#[must_use]
pub fn requests_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"name":"web","count":100,"template":"/snapshots/web","tenant":"a","start":true}"#,
        r#"{"name":"web","configuration":{"image":"/srv/web.elf","memory":"16MiB","net":[{"backend":{"user":{}}}],
"swap":{"stripes":["/swap"],"limit":"16MiB"},"console":[{"backend":{"file":{"output":"/log"}}}]}}"#,
        r#"{"action":"park","guests":["web-*","db-?","x"]}"#,
        r#"{"action":"remove","guests":["**a*b?"]}"#,
        "name=web-%2A&guest=a?b&limit=10",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
