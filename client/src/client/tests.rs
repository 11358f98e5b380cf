//! The client against a server that says what it is told to.

use super::*;
use crate::event::What;
use crate::guest::GuestState;
use crate::request::Action;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// A server that answers one request after the other, each with the next of its answers.
struct Server {
    folder: TempDir,
    requests: JoinHandle<Vec<String>>,
}

impl Server {
    fn new(answers: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let serve = move || {
            let one = |answer: &String| {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                // Byte by byte, so that nothing is taken to come in one piece.
                for byte in answer.bytes() {
                    if stream.write_all(&[byte]).is_err() {
                        break;
                    }
                }
                request
            };
            answers.iter().map(one).collect()
        };
        Self { folder, requests: thread::spawn(serve) }
    }

    fn client(&self) -> Client {
        Client::connect(&self.folder.path().join("sock")).unwrap()
    }

    /// The requests, each as its first line and its body.
    fn requests(self) -> Vec<String> {
        self.requests.join().unwrap()
    }
}

fn read_request(stream: &mut UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let first = head.lines().next().unwrap();
    [first, std::str::from_utf8(&body).unwrap()].join(" ").trim_end().to_owned()
}

/// An answer in chunks, of which each is one of `pieces`.
fn chunked(pieces: &[&str]) -> String {
    let chunks: String =
        pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

fn whole(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn streams_come_line_by_line_however_they_are_cut() {
    let server = Server::new(&[
        &chunked(&["{\"name\":\"a-1\"}\n{\"na", "me\":\"a-2\"}\n\n", "{\"name\":\"a-3\"}"]),
        &chunked(&[]),
    ]);
    let client = server.client();
    let act = Act { action: Action::Park, guests: vec!["a-*".into()] };
    let outcomes: Vec<Outcome> = client.act(&act).unwrap().map(Result::unwrap).collect();
    let names: Vec<&str> = outcomes.iter().map(|outcome| outcome.name.as_str()).collect();
    assert_eq!(names, ["a-1", "a-2", "a-3"]);
    assert_eq!(client.act(&act).unwrap().count(), 0);
    let request = r#"POST /v1/actions HTTP/1.1 {"action":"park","guests":["a-*"]}"#;
    assert_eq!(server.requests(), [request, request]);
}

#[test]
fn targets_name_what_is_asked_for() {
    let server = Server::new(&[
        &chunked(&[]),
        &chunked(&[]),
        &whole("200 OK", "one\ntwo\n"),
        &whole("204 No Content", ""),
        &whole("202 Accepted", "{}"),
        &whole("200 OK", "denali_guests 1\n"),
    ]);
    let client = server.client();
    assert_eq!(client.list::<&str>(&[]).unwrap().count(), 0);
    assert_eq!(client.list(&["web-*", "a b"]).unwrap().count(), 0);
    let mut log = String::new();
    client.log("a/b", Some(10), true).unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log, "one\ntwo\n");
    client.health().unwrap();
    client.drain().unwrap();
    assert_eq!(client.metrics().unwrap(), "denali_guests 1\n");
    assert_eq!(
        server.requests(),
        [
            "GET /v1/guests HTTP/1.1",
            "GET /v1/guests?name=web-%2A&name=a%20b HTTP/1.1",
            "GET /v1/guests/a%2Fb/log?tail=10&follow=1 HTTP/1.1",
            "GET /v1/health HTTP/1.1",
            "POST /v1/drain HTTP/1.1",
            "GET /metrics HTTP/1.1",
        ]
    );
}

#[test]
fn events_are_what_they_say() {
    let text =
        r#"{"number":7,"at_ms":1,"guest":"a","event":"state","state":"parked","why":"idle"}"#;
    let woken = r#"{"number":8,"at_ms":2,"guest":"a","event":"woken","micros":900}"#;
    let server = Server::new(&[&chunked(&[text, "\n", woken, "\n"])]);
    let client = server.client();
    let events: Vec<Event> = client.events(Some("a*")).unwrap().map(Result::unwrap).collect();
    let state = What::State { state: GuestState::Parked, why: "idle".into() };
    assert_eq!(events[0], Event { number: 7, at_ms: 1, guest: "a".into(), what: state });
    assert_eq!(events[1].what, What::Woken { micros: 900 });
    assert_eq!(serde_json::to_string(&events[0]).unwrap(), text);
    assert_eq!(server.requests(), ["GET /v1/events?guest=a%2A HTTP/1.1"]);
}

#[test]
fn refusals_say_why() {
    let server = Server::new(&[
        &whole("404 Not Found", r#"{"status": 122, "message": "there is no guest \"x\""}"#),
        &whole("502 Bad Gateway", "<html>\x1b[31m"),
        &chunked(&[r#"{"name": "a", "error": {"status": 124, "message": "no"}}"#]),
    ]);
    let client = server.client();
    let Err(Error::Refused(problem)) = client.inspect("x") else { panic!() };
    assert_eq!((problem.status, problem.message.as_str()), (122, "there is no guest \"x\""));
    let error = client.host().unwrap_err().to_string();
    assert!(error.contains("status 502: <html>\\u{1b}[31m"), "{error}");
    let act = Act { action: Action::Stop, guests: vec!["a".into()] };
    let outcome = client.act(&act).unwrap().next().unwrap().unwrap();
    assert_eq!(outcome.error.unwrap().status, 124);
}

#[test]
fn answers_that_are_cut_off_are_not_taken_for_complete() {
    let lines = chunked(&["{\"name\":\"a\"}\n", "{\"name\":\"b\"}\n"]);
    let in_second = &lines[..lines.len() - 12];
    let server = Server::new(&[
        in_second,
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nConte",
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ]);
    let client = server.client();
    let act = Act { action: Action::Stop, guests: Vec::new() };
    let mut outcomes = client.act(&act).unwrap();
    assert_eq!(outcomes.next().unwrap().unwrap().name, "a");
    assert!(matches!(outcomes.next(), Some(Err(Error::Cut))));
    assert!(outcomes.next().is_none());
    for _ in 0..4 {
        assert!(matches!(client.host(), Err(Error::Cut)));
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    let server = Server::new(&[
        "SSH-2.0-OpenSSH_9.2\r\n",
        &whole("200 OK", "{\"version\": 7}"),
        &chunked(&["{\"name\":\"a\",\"news\":1}\n"]),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\n\r\nyes",
    ]);
    let client = server.client();
    assert!(matches!(client.host(), Err(Error::Malformed(_))));
    let error = client.host().unwrap_err().to_string();
    assert!(error.contains("another version"), "{error}");
    let act = Act { action: Action::Stop, guests: Vec::new() };
    let error = client.act(&act).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("unknown field `news`"), "{error}");
    assert!(matches!(client.host(), Err(Error::Malformed(_))));
    assert!(matches!(client.host(), Err(Error::Malformed(_))));
}

#[test]
fn nobody_waits_for_ever_where_an_answer_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let Err(Error::Absent { .. }) = Client::connect(&path) else { panic!() };
    let _listener = UnixListener::bind(&path).unwrap();
    let client = Client::connect(&path).unwrap().with_patience(Duration::from_millis(20));
    assert!(matches!(client.host(), Err(Error::Late)));
}
