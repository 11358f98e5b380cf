//! Clients that mean harm, or are broken: too much, too slow, too many, malformed.

mod support;

use denali_supervisor::{Patience, Settings};
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;
use support::{Client, Server, patience, request};

/// Whether the server is as it was.
#[track_caller]
fn works(server: &Server) {
    assert_eq!(server.get("/v1/health").code, 200);
}

#[test]
fn bodies_that_are_too_large_are_refused() {
    let server = Server::start();
    let filler =
        |size: usize| format!(r#"{{"action": "stop", "guests": ["{}"]}}"#, "a".repeat(size));
    let answer = server.ask("POST", "/v1/actions", &filler(64 << 10));
    assert_eq!(answer.code, 413);
    assert_eq!(answer.message(), "the request's body is larger than 64 KiB");
    assert_eq!(server.ask("POST", "/v1/actions", &filler(63 << 10)).code, 400, "no pattern");
    let config = |size: usize| {
        format!(
            r#"{{"name": "a", "configuration": {{"image": "web", "args": "{}"}}}}"#,
            "a".repeat(size)
        )
    };
    assert_eq!(server.ask("POST", "/v1/guests", &config(1 << 20)).code, 413);
    assert_eq!(server.ask("POST", "/v1/guests", &config(1000 << 10)).code, 201);

    // Without a length, in chunks without end.
    let mut client = server.client();
    client
        .send(b"POST /v1/actions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    while client.send(chunk.as_bytes()).is_ok() {}
    assert_eq!(client.answer().code, 413);
    works(&server);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let server = Server::start();
    let many: String = (0..70).map(|number| format!("x-{number}: y\r\n")).collect();
    let head = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    assert_eq!(server.client().ask(&head).code, 431);
    let long = format!("GET /v1/health HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(400 << 10));
    assert_eq!(server.client().ask(&long).code, 431);
    let path = format!("/v1/guests?name={}", "a".repeat(70 << 10));
    assert_eq!(server.client().ask(&request("GET", &path, "")).code, 414);
    works(&server);
}

#[test]
fn many_patterns_are_fine_and_too_many_are_not() {
    let server = Server::start();
    server.script.add(["web-1000".into()]);
    let names = |count: usize| -> String {
        (1..=count).map(|number| format!("&name=web-{number}")).collect()
    };
    let answer = server.get(&format!("/v1/guests?{}", &names(1024)[1..]));
    assert_eq!((answer.code, answer.lines().len()), (200, 1));
    let answer = server.get(&format!("/v1/guests?{}", &names(1025)[1..]));
    assert_eq!(answer.message(), "name: more than 1024 patterns");
    let events = "&guest=a".repeat(17);
    let answer = server.get(&format!("/v1/events?{}", &events[1..]));
    assert_eq!(answer.message(), "guest: more than 16 patterns");
}

#[test]
fn what_is_no_http_is_refused() {
    let server = Server::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /v1/health HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/drain HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/drain HTTP/1.1\r\ncontent-length: -1\r\n\r\n{}",
        b"POST /v1/drain HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n{}",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut client = server.client();
        let _ = client.send(bytes);
        let text = client.rest();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{bytes:?}: {text}");
    }
    assert!(!server.script.drains());
    works(&server);
}

/// A body's end cannot be made to be a request of its own.
#[test]
fn requests_are_not_smuggled() {
    let server = Server::start();
    let hidden = "POST /v1/drain HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
    let mut client = server.client();
    let head = "GET /v1/health HTTP/1.1\r\nhost: x\r\n";
    let both = format!("{head}content-length: {}\r\n\r\n{hidden}", hidden.len());
    assert_eq!(client.ask(&both).code, 200);
    let mut client = server.client();
    let both =
        format!("{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    let _ = client.send(both.as_bytes());
    let text = client.rest();
    assert!(text.matches("HTTP/1.1 2").count() <= 1, "{text}");
    assert!(!server.script.drains());
}

#[test]
fn malformed_requests_are_refused_in_a_line_that_names_the_field() {
    let server = Server::start();
    let deep = format!(r#"{{"name": "a", "configuration": {}"#, "[".repeat(100_000));
    for (path, body, message) in [
        ("/v1/guests", "", "the request: EOF while parsing"),
        ("/v1/guests", "{\"name\": \"a\",", "the request: EOF while parsing"),
        ("/v1/guests", r#"{"nme": "a"}"#, "nme: unknown field `nme`"),
        ("/v1/guests", r#"{"name": "a", "count": -1}"#, "count: invalid value: integer `-1`"),
        ("/v1/guests", r#"{"name": "a", "count": 1e99}"#, "count: invalid type"),
        ("/v1/guests", r#"{"name": "\u0000", "template": "/t"}"#, "name: \"\\0\" is not a name"),
        ("/v1/guests", r#"{"name": "a", "template": "/t/../../etc"}"#, "template: "),
        (
            "/v1/guests",
            r#"{"name": "a", "configuration": {"image": "/srv/../etc/shadow"}}"#,
            "configuration: \"/srv/../etc/shadow\" has \"..\" in it",
        ),
        (
            "/v1/guests",
            r#"{"name": "a", "configuration": {"image": "web", "memory": "5x"}}"#,
            "configuration: memory: ",
        ),
        ("/v1/guests", &deep, "configuration"),
        ("/v1/actions", "\u{feff}{}", "the request: expected value"),
        ("/v1/actions", r#"{"action": "stop", "guests": "*"}"#, "guests: invalid type: string"),
    ] {
        let answer = server.ask("POST", path, body);
        assert_eq!((answer.code, &answer.json()["status"]), (400, &122.into()), "{body}");
        let said = answer.message();
        assert!(said.starts_with(message) && !said.contains('\n'), "{said}");
    }
    assert!(server.script.names().is_empty());
}

#[test]
fn names_lead_to_no_file() {
    let server = Server::start();
    server.script.add(["web".into()]);
    let log = server.folder.path().join("log");
    std::fs::write(&log, "hello\n").unwrap();
    server.script.set_log(log.to_str().unwrap());
    for name in ["..", ".", "..%2Fweb", "%2e%2e", "web%00", "web%2F..", "web%0a", "-rf", "%ff"] {
        for path in [format!("/v1/guests/{name}"), format!("/v1/guests/{name}/log")] {
            let answer = server.get(&path);
            assert_eq!(answer.code, 400, "{path}: {answer:?}");
        }
    }
    for path in ["/v1/guests/../host", "/v1/guests/web/../log", "//v1/host", "/v1/guests//log"] {
        assert!(matches!(server.get(path).code, 400 | 404), "{path}");
    }
    // Not even where the keeper was led astray.
    let link = server.folder.path().join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    server.script.set_log(link.to_str().unwrap());
    assert_eq!(server.get("/v1/guests/web/log").code, 500);
    server.script.set_log("/dev/zero");
    assert_eq!(server.get("/v1/guests/web/log").code, 500);
}

/// Settings with a patience that tests can wait for.
fn impatient() -> Settings {
    let short = Duration::from_millis(100);
    Settings {
        patience: Patience { head: short, body: short, ..patience() },
        ..Settings::default()
    }
}

#[test]
fn clients_that_are_slow_or_idle_are_cut_off() {
    let server = Server::with(impatient());
    let mut silent = server.client();
    let mut partial = server.client();
    partial.send(b"GET /v1/health HTTP/1.1\r\nhost: x").unwrap();
    let mut idle = server.client();
    assert_eq!(idle.ask(&request("GET", "/v1/health", "")).code, 200);
    for client in [&mut silent, &mut partial, &mut idle] {
        // It ends: with nothing, an error, or the words that it took too long.
        let rest = client.rest();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    let mut body = server.client();
    body.send(b"POST /v1/actions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let answer = body.answer();
    assert_eq!((answer.code, answer.message().as_str()), (408, "the request's body took too long"));
    body.rest();
    // Byte after byte, without end.
    let mut trickle = server.client();
    let error = loop {
        match trickle.send(b"a") {
            Ok(()) => thread::sleep(Duration::from_millis(5)),
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    works(&server);
}

#[test]
fn connections_are_bounded_and_further_ones_are_told_so() {
    let server = Server::with(Settings { connections: 8, ..impatient_only_at_the_end() });
    let mut held: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut held {
        assert_eq!(client.ask(&request("GET", "/v1/health", "")).code, 200);
    }
    let answer = server.get("/v1/health");
    assert_eq!(answer.code, 503);
    assert_eq!(answer.message(), "there are too many connections; try later");
    for client in &mut held {
        assert_eq!(client.ask(&request("GET", "/v1/health", "")).code, 200, "they go on");
    }
    held.pop();
    while server.get("/v1/health").code != 200 {}
}

fn impatient_only_at_the_end() -> Settings {
    Settings { patience: patience(), ..Settings::default() }
}

#[test]
fn listeners_and_works_are_bounded_and_leave_places_for_others() {
    let server = Server::start();
    let listen = |server: &Server| {
        let mut client = server.client();
        client.send(request("GET", "/v1/events", "").as_bytes()).unwrap();
        let code = client.head().code;
        (client, code)
    };
    let held: Vec<_> = (0..64).map(|_| listen(&server)).collect();
    assert!(held.iter().all(|(_, code)| *code == 200));
    assert_eq!(listen(&server).1, 503);
    assert_eq!(server.get("/v1/events").message(), "64 clients listen already; try later");

    server.script.set_silent(true);
    let act = request("POST", "/v1/actions", r#"{"action": "park", "guests": ["*"]}"#);
    let mut works_on = Vec::new();
    for _ in 0..16 {
        let mut client = server.client();
        client.send(act.as_bytes()).unwrap();
        assert_eq!(client.head().code, 200);
        works_on.push(client);
    }
    let answer = server.client().ask(&act);
    assert_eq!(answer.message(), "16 requests are worked on already; try later");
    server.script.set_silent(false);
    for client in &mut works_on {
        assert!(client.chunk().is_some(), "no guest fits");
        assert_eq!(client.chunk(), None);
    }
    works(&server);
    assert_eq!(server.client().ask(&act).code, 200);
}

/// Many at once, each a connection: all are answered, or told to come later.
#[test]
fn a_crowd_is_answered() {
    let server = Server::start();
    server.script.add((0..100).map(|number| format!("web-{number}")));
    thread::scope(|scope| {
        for number in 0..64 {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..10 {
                    let answer = match number % 4 {
                        0 => server.get("/v1/guests"),
                        1 => server.get("/v1/guests/web-1"),
                        2 => server.ask("POST", "/v1/guests", "garbage"),
                        _ => server.ask(
                            "POST",
                            "/v1/actions",
                            r#"{"action": "wake", "guests": ["web-*"]}"#,
                        ),
                    };
                    assert!(matches!(answer.code, 200 | 400 | 503), "{answer:?}");
                }
            });
        }
    });
    works(&server);
}
