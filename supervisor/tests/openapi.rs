//! The description against the real server: every route that it lists answers as it says, and nothing else.

mod support;

use denali_client::{GuestState, What};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{Answer, Server, request, schema};

/// Something to ask for each operation, and the answer that is expected.
const CALLS: &[(&str, &str, &str, u16)] = &[
    ("createGuests", "/v1/guests", r#"{"name": "new", "configuration": {"image": "web"}}"#, 201),
    ("createGuests", "/v1/guests", r#"{"name": "many", "count": 3, "template": "/t"}"#, 200),
    ("createGuests", "/v1/guests", r#"{"name": "new", "template": "/t"}"#, 422),
    ("createGuests", "/v1/guests", r#"{"name": "noimage", "template": "/t"}"#, 422),
    ("createGuests", "/v1/guests", r#"{"name": "nomemory", "template": "/t"}"#, 503),
    ("createGuests", "/v1/guests", r#"{"name": "../new", "template": "/t"}"#, 400),
    ("listGuests", "/v1/guests", "", 200),
    ("listGuests", "/v1/guests?name=web-*&after=web-1&limit=1", "", 200),
    ("listGuests", "/v1/guests?limit=0", "", 400),
    ("inspectGuest", "/v1/guests/web-1", "", 200),
    ("inspectGuest", "/v1/guests/nobody", "", 404),
    ("inspectGuest", "/v1/guests/-x", "", 400),
    ("readLog", "/v1/guests/web-1/log", "", 200),
    ("readLog", "/v1/guests/web-1/log?tail=1", "", 200),
    ("readLog", "/v1/guests/nobody/log", "", 404),
    ("readLog", "/v1/guests/web-1/log?tail=x", "", 400),
    ("act", "/v1/actions", r#"{"action": "park", "guests": ["web-*", "nobody"]}"#, 200),
    ("act", "/v1/actions", r#"{"action": "park", "guests": []}"#, 400),
    ("listen", "/v1/events?guest=web-*", "", 200),
    ("listen", "/v1/events?guest=a/b", "", 400),
    ("showHost", "/v1/host", "", 200),
    ("health", "/v1/health", "", 200),
    ("metrics", "/metrics", "", 200),
    ("describe", "/v1/openapi.json", "", 200),
    ("removeGuest", "/v1/guests/web-2", "", 200),
    ("removeGuest", "/v1/guests/web-2", "", 404),
    ("removeGuest", "/v1/guests/a%2Fb", "", 400),
    ("drain", "/v1/drain", "", 202),
    ("health", "/v1/health", "", 503),
];

/// The operation of this name, its method and path.
fn operation<'a>(document: &'a Value, id: &str) -> (&'a str, &'a str, &'a Value) {
    let paths = document["paths"].as_object().unwrap().iter();
    let mut operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    operations.find(|(_, _, operation)| operation["operationId"] == id).unwrap()
}

/// Whether an answer is what the operation says.
fn check(document: &Value, operation: &Value, answer: &Answer) {
    let described = &operation["responses"][answer.code.to_string()];
    assert!(described.is_object(), "{} is not described: {answer:?}", answer.code);
    let Some(content) = described["content"].as_object() else {
        assert_eq!(answer.text, "");
        return;
    };
    let form = content.get(&answer.media).unwrap_or_else(|| panic!("{answer:?}"));
    let values = match answer.media.as_str() {
        "application/json" => vec![answer.json()],
        "application/x-ndjson" => answer.lines(),
        _ => {
            assert!(form["schema"].is_null() && !answer.text.is_empty());
            return;
        }
    };
    assert!(!values.is_empty(), "{answer:?}");
    if form["schema"].is_null() {
        return;
    }
    for value in values {
        assert_eq!(schema::wrong(document, &form["schema"], &value), None);
    }
}

#[test]
fn every_route_answers_as_it_is_described() {
    let server = Server::start();
    let log = server.folder.path().join("log");
    std::fs::write(&log, "hello\nworld\n").unwrap();
    server.script.set_log(log.to_str().unwrap());
    server.script.add(["web-1".into(), "web-2".into(), "web-3".into()]);
    let document = server.get("/v1/openapi.json").json();
    assert_eq!(document, denali_supervisor::document());

    let mut called = BTreeSet::new();
    for (id, path, body, code) in CALLS {
        let (method, template, operation) = operation(&document, id);
        assert!(fits(template, path.split('?').next().unwrap()), "{path} is no {template}");
        if *id == "listen" && *code == 200 {
            listen(&server, &document, operation, path);
        } else {
            let answer = server.ask(&method.to_uppercase(), path, body);
            assert_eq!(answer.code, *code, "{method} {path} {body}: {answer:?}");
            check(&document, operation, &answer);
        }
        if !body.is_empty() && *code < 300 {
            let form = &operation["requestBody"]["content"]["application/json"]["schema"];
            let body = serde_json::from_str(body).unwrap();
            assert_eq!(schema::wrong(&document, form, &body), None);
        }
        called.insert((*id).to_owned());
    }
    assert!(server.script.drains());

    let paths = document["paths"].as_object().unwrap().values();
    let described: BTreeSet<_> = paths
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(called, described, "called, and described");
}

/// Whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let (parts, own) = (template.split('/'), path.split('/'));
    template.split('/').count() == path.split('/').count()
        && parts.zip(own).all(|(part, own)| part == own || part.starts_with('{'))
}

/// Hears of every kind of event.
fn listen(server: &Server, document: &Value, operation: &Value, path: &str) {
    let mut client = server.client();
    client.send(request("GET", path, "").as_bytes()).unwrap();
    let mut answer = client.head();
    while server.script.listeners() == 0 {
        std::thread::yield_now();
    }
    let events = [
        What::Created {},
        What::Removed {},
        What::State { state: GuestState::Parked, why: "it idled".into() },
        What::Woken { micros: 900 },
        What::Gate { decision: "admitted: there is memory".into() },
        What::Notice { message: "the disk is nearly full".into() },
    ];
    for what in &events {
        server.script.tell("game", what);
        assert_eq!(server.script.tell("web-1", what), 1);
    }
    answer.text.clear();
    while answer.text.lines().count() < events.len() {
        answer.text += std::str::from_utf8(&client.chunk().unwrap()).unwrap();
    }
    check(document, operation, &answer);
    for (line, what) in answer.lines().into_iter().zip(events) {
        let event: denali_client::Event = serde_json::from_value(line.clone()).unwrap();
        assert_eq!((event.guest.as_str(), event.what), ("web-1", what), "{line}");
    }
}

#[test]
fn what_is_not_described_is_not_there() {
    let server = Server::start();
    let document = denali_supervisor::document();
    let problem = json!({"$ref": "#/components/schemas/Problem"});
    for (method, path, code) in [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/guests/", 404),
        ("GET", "/v1/guests/a/b", 404),
        ("GET", "/v2/guests", 404),
        ("PUT", "/v1/guests", 405),
        ("POST", "/v1/host", 405),
        ("PATCH", "/v1/guests/a", 405),
        ("DELETE", "/v1/guests", 405),
        ("POST", "/metrics", 405),
    ] {
        let answer = server.ask(method, path, "");
        assert_eq!(answer.code, code, "{method} {path}");
        assert_eq!(schema::wrong(&document, &problem, &answer.json()), None);
    }
}

#[test]
fn the_checker_of_schemas_finds_what_is_wrong() {
    let document = denali_supervisor::document();
    let wrong = |name: &str, value: Value| {
        let form = json!({"$ref": format!("#/components/schemas/{name}")});
        schema::wrong(&document, &form, &value)
    };
    assert_eq!(wrong("Problem", json!({"status": 122, "message": "x"})), None);
    for value in [
        json!({"status": 122}),
        json!({"status": "122", "message": "x"}),
        json!({"status": 256, "message": "x"}),
        json!({"status": 122, "message": "x", "more": 1}),
        json!([]),
    ] {
        assert!(wrong("Problem", value.clone()).is_some(), "{value}");
    }
    let event = json!({"number": 1, "at_ms": 2, "guest": "a", "event": "woken", "micros": 3});
    assert_eq!(wrong("Event", event.clone()), None);
    for (field, value) in [("event", json!("exploded")), ("micros", json!("3"))] {
        let mut event = event.clone();
        event[field] = value;
        assert!(wrong("Event", event.clone()).is_some(), "{event}");
    }
    assert!(wrong("Act", json!({"action": "explode", "guests": ["a"]})).is_some());
}
