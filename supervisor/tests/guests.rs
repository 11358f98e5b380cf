//! Fleets: created, listed in pages, acted on, heard of, their logs read; and clients that come and go.

mod support;

use denali_client::{Act, Action, Client, Create, Error, What};
use denali_supervisor::{Patience, Settings};
use std::fs::File;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};
use support::{Server, patience, request};

fn created() -> What {
    What::Created {}
}

#[test]
fn a_hundred_thousand_guests_are_created_listed_and_removed() {
    let server = Server::start();
    let body = r#"{"name": "web", "count": 100000, "template": "/snapshots/web", "start": true}"#;
    let made = server.ask("POST", "/v1/guests", body);
    assert_eq!((made.code, made.media.as_str()), (200, "application/x-ndjson"));
    assert_eq!(made.lines().len(), 100_000);

    let all = server.get("/v1/guests").lines();
    let names: Vec<_> = all.iter().map(|guest| guest["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 100_000);
    assert!(names.is_sorted());

    let (mut after, mut paged) = (String::new(), Vec::new());
    loop {
        let page = server.get(&format!("/v1/guests?name=web-1*&limit=4000{after}")).lines();
        let Some(last) = page.last() else { break };
        after = format!("&after={}", last["name"].as_str().unwrap());
        assert!(page.len() <= 4000);
        paged.extend(page.into_iter().map(|guest| guest["name"].as_str().unwrap().to_owned()));
    }
    let wanted: Vec<_> = names.into_iter().filter(|name| name.starts_with("web-1")).collect();
    assert_eq!(paged, wanted);

    let body = r#"{"action": "remove", "guests": ["*"]}"#;
    assert_eq!(server.ask("POST", "/v1/actions", body).lines().len(), 100_000);
    assert_eq!(server.get("/v1/guests").text, "");
}

#[test]
fn what_becomes_of_each_guest_is_told_beside_the_others() {
    let server = Server::start();
    server.script.add(["web-2".into()]);
    let body = r#"{"name": "web", "count": 3, "configuration": {"image": "web"}}"#;
    let outcomes = server.ask("POST", "/v1/guests", body).lines();
    assert_eq!(outcomes[0]["name"], "web-1");
    assert_eq!(outcomes[1]["error"]["status"], 122);
    assert_eq!(outcomes[2].as_object().unwrap().len(), 1, "no error");
    assert_eq!(server.script.names(), ["web-1", "web-2", "web-3"]);

    let body = r#"{"action": "stop", "guests": ["web-?", "game"]}"#;
    let outcomes = server.ask("POST", "/v1/actions", body).lines();
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcomes[3]["name"], "game");
    assert_eq!(outcomes[3]["error"]["message"], "there is no such guest");
}

/// The messages of problems are lines, whatever the keeper says.
#[test]
fn problems_are_told_in_a_line() {
    let server = Server::start();
    let body = r#"{"name": "nomemory", "template": "/t"}"#;
    let answer = server.ask("POST", "/v1/guests", body);
    assert_eq!(answer.code, 503);
    assert_eq!(answer.json()["status"], 124);
    assert_eq!(answer.message(), "there is no memory\\nleft");
}

#[test]
fn a_log_is_followed_until_its_client_goes() {
    let server = Server::start();
    server.script.add(["web".into()]);
    assert_eq!(server.get("/v1/guests/web/log").code, 404, "there is none");
    let path = server.folder.path().join("log");
    server.script.set_log(path.to_str().unwrap());
    assert_eq!(server.get("/v1/guests/web/log").code, 404, "nothing has been written");
    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let answer = server.get("/v1/guests/web/log");
    assert_eq!(
        (answer.text.as_str(), answer.media.as_str()),
        ("one\ntwo\nthree\n", "text/plain; charset=utf-8")
    );
    assert_eq!(server.get("/v1/guests/web/log?tail=2").text, "two\nthree\n");

    let mut client = server.client();
    client.send(request("GET", "/v1/guests/web/log?follow&tail=1", "").as_bytes()).unwrap();
    client.head();
    assert_eq!(client.chunk().unwrap(), b"three\n");
    let mut log = File::options().append(true).open(&path).unwrap();
    log.write_all(b"four\n").unwrap();
    assert_eq!(client.chunk().unwrap(), b"four\n");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(client.chunk(), None, "nothing more can come");
}

#[test]
fn listeners_hear_what_they_asked_for_and_are_gone_when_they_go() {
    let server = Server::start();
    let mut client = server.client();
    client.send(request("GET", "/v1/events?guest=web-*", "").as_bytes()).unwrap();
    assert_eq!(client.head().code, 200);
    while server.script.listeners() == 0 {
        thread::yield_now();
    }
    server.script.tell("game", &created());
    server.script.tell("web-1", &created());
    let line = String::from_utf8(client.chunk().unwrap()).unwrap();
    assert_eq!(line, "{\"number\":2,\"at_ms\":1,\"guest\":\"web-1\",\"event\":\"created\"}\n");
    drop(client);
    // Of events that it does not even ask for, it is not told; that it has gone is seen all the same.
    while server.script.tell("game", &created()) > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_listener_that_does_not_read_is_given_up_and_told_where_the_gap_begins() {
    let server = Server::start();
    let mut client = server.client();
    client.send(request("GET", "/v1/events", "").as_bytes()).unwrap();
    client.head();
    while server.script.listeners() == 0 {
        thread::yield_now();
    }
    let what = What::Notice { message: "x".repeat(1000) };
    while server.script.tell("web", &what) > 0 {}
    let mut text = Vec::new();
    while let Some(chunk) = client.chunk() {
        text.extend(chunk);
    }
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["number"], index as u64 + 1);
    }
    let last = lines.last().unwrap();
    assert_eq!((last["event"].as_str(), last["guest"].as_str()), (Some("notice"), Some("")));
    assert!(last["message"].as_str().unwrap().starts_with("from this event on"), "{last}");
    assert!(lines.len() > 4096);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let patience = Patience { write: Duration::from_millis(50), ..patience() };
    let server = Server::with(Settings { patience, ..Settings::default() });
    let body = r#"{"name": "web", "count": 100000, "template": "/snapshots/web"}"#;
    let mut client = server.client();
    client.send(request("POST", "/v1/guests", body).as_bytes()).unwrap();
    while server.script.names().is_empty() {
        thread::yield_now();
    }
    // The only connection that is left is the one that asks.
    wait_for(&server, "denali_api_connections 1");
    let text = client.rest();
    assert!(!text.ends_with("0\r\n\r\n"), "the answer has no end");
}

/// Waits until the metrics have a line; for so long that it will not come any more.
fn wait_for(server: &Server, line: &str) {
    let started = Instant::now();
    while !server.get("/metrics").text.lines().any(|is| is == line) {
        assert!(started.elapsed() < Duration::from_secs(60), "{line} does not come");
        thread::yield_now();
    }
}

#[test]
fn a_keeper_that_does_not_answer_is_not_waited_for_for_ever() {
    let short = Duration::from_millis(50);
    let patience = Patience { answer: short, health: short, ..patience() };
    let server = Server::with(Settings { patience, ..Settings::default() });
    server.script.set_silent(true);
    for path in ["/v1/health", "/v1/guests", "/v1/guests/web", "/v1/host", "/metrics"] {
        let answer = server.get(path);
        assert_eq!(answer.code, 503, "{path}");
        assert_eq!(answer.message(), "the supervisor does not answer; try later");
    }
    let body = r#"{"name": "web", "template": "/t"}"#;
    let answer = server.ask("POST", "/v1/guests", body);
    assert_eq!(answer.code, 503);
    assert!(answer.message().contains("goes on"), "{answer:?}");
    assert_eq!(server.script.kept(), 6);
    server.script.set_silent(false);
    while server.get("/v1/health").code != 200 {}
    assert_eq!(server.script.names(), ["web"], "it went on");
}

#[test]
fn a_keeper_that_has_ended_is_said_to() {
    let server = Server::start();
    server.script.set_silent(true);
    let mut client = server.client();
    client.send(request("GET", "/v1/host", "").as_bytes()).unwrap();
    while server.script.kept() == 0 {
        thread::yield_now();
    }
    server.script.end();
    assert_eq!(client.answer().code, 503, "what it was asked for before");
    let answer = server.get("/v1/host");
    assert_eq!(answer.code, 503);
    assert!(answer.message().starts_with("the supervisor gave no answer"), "{answer:?}");
}

#[test]
fn a_server_that_is_stopped_ends_its_streams_and_leaves_a_socket_that_can_be_taken() {
    let mut server = Server::start();
    let mut listener = server.client();
    listener.send(request("GET", "/v1/events", "").as_bytes()).unwrap();
    listener.head();
    let _idle = server.client();
    server.stop();
    assert_eq!(listener.chunk(), None, "the stream has an end");
    let settings = Settings::default();
    drop(denali_supervisor::listen(&server.socket(), &settings).unwrap());
    std::fs::remove_file(server.socket()).unwrap();
    std::fs::write(server.socket(), "").unwrap();
    let error = denali_supervisor::listen(&server.socket(), &settings).unwrap_err();
    assert!(error.to_string().ends_with("there is something that is no socket"), "{error}");
}

#[test]
fn a_socket_that_somebody_listens_at_is_not_taken() {
    let server = Server::start();
    let error = denali_supervisor::listen(&server.socket(), &Settings::default()).unwrap_err();
    assert!(error.to_string().ends_with("another supervisor listens there"), "{error}");
    assert_eq!(server.get("/v1/health").code, 200);
}

/// The client that the program `denali` has, and the server.
#[test]
fn the_client_of_the_program_is_understood() {
    let server = Server::start();
    let path = server.folder.path().join("log");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    server.script.set_log(path.to_str().unwrap());
    let client = Client::connect(&server.socket()).unwrap();
    let create = |count| Create {
        name: "web".into(),
        count,
        configuration: Some(serde_json::json!({"image": "web"})),
        template: None,
        tenant: "default".into(),
        start: true,
        on_demand: false,
    };
    for (count, names) in [(1, vec!["web"]), (2, vec!["web-1", "web-2"])] {
        let made: Vec<_> = client.create(&create(count)).unwrap().map(Result::unwrap).collect();
        assert!(made.iter().all(|outcome| outcome.error.is_none()));
        assert!(made.iter().map(|outcome| outcome.name.as_str()).eq(names));
    }
    let Err(Error::Refused(problem)) = client.create(&create(1)) else { panic!() };
    assert_eq!((problem.status, problem.message.as_str()), (122, "there is a guest of this name"));
    let act = Act { action: Action::Remove, guests: vec!["web-?".into(), "no".into()] };
    let outcomes: Vec<_> = client.act(&act).unwrap().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.error.is_none()).count(), 2);
    assert_eq!(client.list(&["*"]).unwrap().map(Result::unwrap).count(), 1);
    assert_eq!(client.inspect("web").unwrap().guest.name, "web");
    let mut log = String::new();
    client.log("web", Some(1), false).unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log, "two\n");
    let mut followed = client.log("web", None, true).unwrap();
    followed.read_exact(&mut [0; 8]).unwrap();
    let mut events = client.events(Some("web")).unwrap();
    while server.script.listeners() == 0 {
        thread::yield_now();
    }
    server.script.tell("web", &created());
    assert_eq!(events.next().unwrap().unwrap().what, created());
    assert_eq!(client.host().unwrap().wakes, 1);
    assert!(client.metrics().unwrap().contains("denali_wakes_total 1\n"));
    client.health().unwrap();
    client.drain().unwrap();
    let Err(Error::Refused(problem)) = client.health() else { panic!() };
    assert_eq!(problem.message, "the supervisor stops: it parks its guests");
}
