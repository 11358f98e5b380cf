//! The connection as a transport sees it: requests in, responses out.

use denali_http::{Connection, HttpDate, Limits, Method, Request, Responder, Route, Sent, Service};
use denali_http::{Source, route};
use proptest::prelude::*;

/// Answers every way there is.
struct Server {
    date: HttpDate,
}

impl Server {
    fn new() -> Self {
        Self { date: HttpDate::new(784_111_777) }
    }
}

struct Counting(u8);

impl Source for Counting {
    fn fill(&mut self, output: &mut Vec<u8>, room: usize) {
        for _ in 0..room.min(1000) {
            output.push(b'a' + self.0 % 26);
            self.0 = self.0.wrapping_add(1) % 26;
        }
    }
}

fn static_page(_: &mut Server, _: &Request<'_>, responder: Responder<'_>) -> Sent {
    responder.send(200, "text/plain", b"page")
}

fn echo(_: &mut Server, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    responder.send(200, "application/octet-stream", request.body)
}

fn long(_: &mut Server, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    match request.path["/long/".len()..].parse() {
        Ok(length) => responder.stream(200, "text/plain", length, Counting(0)),
        Err(_) => responder.send(404, "text/plain", b"no number"),
    }
}

const ROUTES: &[Route<Server>] = &[
    Route { methods: &[Method::Get], path: "/", handler: static_page },
    Route { methods: &[Method::Post, Method::Put], path: "/echo", handler: echo },
    Route { methods: &[Method::Get], path: "/long/*", handler: long },
];

impl Service for Server {
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        route(ROUTES, self, request, responder)
    }

    fn date(&mut self) -> Option<&HttpDate> {
        Some(&self.date)
    }
}

/// Feeds `pieces` as a transport does and returns all output, and whether the connection closed.
fn exchange<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut server = Server::new();
    let mut connection = Connection::new(Limits { head: 512, body: 1024 });
    let mut output = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            if !connection.wants_input() && connection.output(&mut server).is_empty() {
                break;
            }
            let part = rest.len().min(4096);
            connection.receive(&rest[..part], &mut server);
            rest = &rest[part..];
            drain(&mut connection, &mut server, &mut output);
        }
    }
    (output, connection.is_done())
}

fn drain(connection: &mut Connection, server: &mut Server, output: &mut Vec<u8>) {
    loop {
        let bytes = connection.output(server);
        if bytes.is_empty() {
            return;
        }
        let part = bytes.len().min(700);
        output.extend_from_slice(&bytes[..part]);
        connection.sent(part);
    }
}

fn text(request: &str) -> (String, bool) {
    let (output, closed) = exchange([request.as_bytes()]);
    (String::from_utf8(output).unwrap(), closed)
}

const HOST: &str = "Host: guest\r\n";

#[test]
fn a_page_with_all_its_headers() {
    let (response, closed) = text("GET / HTTP/1.1\r\nHost: guest\r\n\r\n");
    assert_eq!(
        response,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\npage"
    );
    assert!(!closed);
}

#[test]
fn statuses() {
    let long_target = format!("GET /{} HTTP/1.1\r\n", "x".repeat(600));
    let long_header = format!("GET / HTTP/1.1\r\n{HOST}X: {}\r\n\r\n", "x".repeat(600));
    let many = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "a:b\r\n".repeat(70));
    for (request, status, closes) in [
        ("GET /none HTTP/1.1\r\nHost: g\r\n\r\n", 404, false),
        ("DELETE / HTTP/1.1\r\nHost: g\r\n\r\n", 405, false),
        ("OPTIONS / HTTP/1.1\r\nHost: g\r\n\r\n", 204, false),
        ("OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n", 204, false),
        ("CONNECT a:1 HTTP/1.1\r\nHost: g\r\n\r\n", 501, true),
        ("GET / HTTP/1.1\r\n\r\n", 400, true),
        ("\0\0\0\r\n\r\n", 400, true),
        ("GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", 200, true),
        ("GET / HTTP/1.0\r\n\r\n", 200, true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false),
        ("POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 1025\r\n\r\n", 413, true),
        (&long_target, 414, true),
        (&long_header, 431, true),
        (&many, 431, true),
    ] {
        let (response, closed) = text(request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
        assert_eq!(closed, closes, "{request}");
        assert_eq!(response.contains("Connection: close"), closes, "{request}");
    }
}

#[test]
fn allowed_methods_are_named() {
    let (response, _) = text("GET /echo HTTP/1.1\r\nHost: g\r\n\r\n");
    assert!(response.contains("\r\nAllow: OPTIONS, POST, PUT\r\n"), "{response}");
}

#[test]
fn head_has_the_length_but_not_the_body() {
    let (response, _) =
        text("HEAD / HTTP/1.1\r\nHost: g\r\n\r\nHEAD /long/9 HTTP/1.1\r\nHost: g\r\n\r\n");
    assert!(
        response.contains("Content-Length: 4\r\n") && response.contains("Content-Length: 9\r\n")
    );
    assert!(response.ends_with("\r\n\r\n") && !response.contains("page"));
}

#[test]
fn bodies_are_read_by_length_and_by_chunks() {
    let (response, _) = text(
        "POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc\
         PUT /echo HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n1\r\ng\r\n0\r\n\r\n\
         GET / HTTP/1.1\r\nHost: g\r\n\r\n",
    );
    let bodies: Vec<&str> = response.split("GMT\r\n\r\n").skip(1).collect();
    assert!(bodies[0].starts_with("abcHTTP") && bodies[1].starts_with("defgHTTP"));
    assert_eq!(bodies[2], "page");
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let head =
        format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    let (output, _) = exchange([head.as_bytes(), b"h", b"i"]);
    let output = String::from_utf8(output).unwrap();
    assert!(output.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{output}");
    assert!(output.ends_with("\r\n\r\nhi"));
}

#[test]
fn long_bodies_stream_and_requests_behind_them_wait() {
    let (response, _) =
        text("GET /long/100000 HTTP/1.1\r\nHost: g\r\n\r\nGET / HTTP/1.1\r\nHost: g\r\n\r\n");
    let body = &response[response.find("\r\n\r\n").unwrap() + 4..];
    assert!(body[..100_000].bytes().zip((b'a'..=b'z').cycle()).all(|(one, other)| one == other));
    assert!(body[100_000..].starts_with("HTTP/1.1 200 OK") && body.ends_with("page"));
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_bounded_memory() {
    let request = b"GET / HTTP/1.1\r\nHost: g\r\n\r\n".repeat(1000);
    let (output, closed) = exchange([&request[..]]);
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output.matches("HTTP/1.1 200 OK").count(), 1000);
    assert!(!closed);
}

#[test]
fn nothing_counts_after_close() {
    let (response, closed) = text(
        "GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: g\r\n\r\n",
    );
    assert_eq!(response.matches("HTTP/1.1").count(), 1);
    assert!(closed);
}

#[test]
fn a_slow_client_times_out_but_an_idle_one_is_just_closed() {
    let mut server = Server::new();
    let mut slow = Connection::new(Limits::default());
    slow.receive(b"GET / HT", &mut server);
    slow.time_out(&mut server);
    assert!(slow.output(&mut server).starts_with(b"HTTP/1.1 408 "));
    let mut idle = Connection::new(Limits::default());
    idle.time_out(&mut server);
    assert!(idle.output(&mut server).is_empty() && idle.is_done());
}

#[test]
fn the_end_of_input_lets_answers_out_first() {
    let mut server = Server::new();
    let mut connection = Connection::new(Limits::default());
    connection.receive(b"GET / HTTP/1.1\r\nHost: g\r\n\r\nGET /", &mut server);
    connection.end_of_input();
    assert!(!connection.is_done());
    let mut output = Vec::new();
    drain(&mut connection, &mut server, &mut output);
    assert!(output.ends_with(b"page") && connection.is_done());
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(format!("GET / HTTP/1.1\r\n{HOST}\r\n").into_bytes()),
        Just(format!("\r\nHEAD / HTTP/1.1\n{HOST}\n").into_bytes()),
        Just(format!("OPTIONS /echo HTTP/1.1\r\n{HOST}\r\n").into_bytes()),
        (0..40_000_u32).prop_map(|length| {
            format!("GET /long/{length} HTTP/1.1\r\n{HOST}\r\n").into_bytes()
        }),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|body| {
            let head =
                format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: {}\r\n\r\n", body.len());
            [head.into_bytes(), body].concat()
        }),
        proptest::collection::vec(any::<u8>(), 1..300).prop_map(|body| {
            let head = format!(
                "PUT /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                body.len()
            );
            [head.into_bytes(), body, b"\r\n0\r\n\r\n".to_vec()].concat()
        }),
        Just(b"BREW / HTTP/1.1\r\nHost: g\r\n\r\n".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_split_of_a_pipelined_stream_gives_the_same_responses(
        requests in proptest::collection::vec(request(), 0..8),
        cuts in proptest::collection::vec(any::<u16>(), 0..40),
    ) {
        let stream = requests.concat();
        let mut ends: Vec<usize> =
            cuts.iter().map(|cut| usize::from(*cut) % (stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let mut start = 0;
        let mut pieces = Vec::new();
        for end in ends {
            pieces.push(&stream[start..end]);
            start = end;
        }
        prop_assert_eq!(exchange(pieces), exchange([&stream[..]]));
        prop_assert_eq!(exchange(stream.chunks(1)), exchange([&stream[..]]));
    }

    #[test]
    fn any_bytes_are_survived(pieces in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            request(),
            "[A-Z]{3,4} /[a-z*?]{0,4} HTTP/1.[01]\r\n(Host: a\r\n)?([a-zA-Z-]{1,9}: [ -~]{0,9}\r\n){0,3}\r\n"
                .prop_map(String::into_bytes),
        ],
        0..8,
    )) {
        exchange(pieces.iter().map(|piece| &piece[..]));
    }
}

/// Answers `/later…` later, and everything else with its path at once.
struct Later {
    asked: Vec<String>,
}

impl Service for Later {
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        if request.path.starts_with("/later") {
            self.asked.push(request.path.to_owned());
            return responder.defer();
        }
        responder.send(200, "text/plain", request.path.as_bytes())
    }
}

#[test]
fn a_deferred_answer_keeps_its_place() {
    let mut service = Later { asked: Vec::new() };
    let mut connection = Connection::new(Limits::default());
    let head = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\n{HOST}\r\n");
    let requests = [
        head("GET", "/a"),
        head("HEAD", "/later1"),
        head("GET", "/b"),
        head("GET", "/later2"),
        "GET /c HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    connection.receive(requests.concat().as_bytes(), &mut service);
    connection.end_of_input();
    let mut output = Vec::new();
    for round in 1..=2 {
        loop {
            let bytes = connection.output(&mut service).to_vec();
            if bytes.is_empty() {
                break;
            }
            connection.sent(bytes.len());
            output.extend(bytes);
        }
        assert!(connection.is_deferred() && !connection.is_done());
        assert_eq!(service.asked.last(), Some(&format!("/later{round}")));
        connection.answer_deferred(&mut service, |responder| {
            responder.stream_with(206, &[("ETag", "\"x\"")], 5000, Counting(0))
        });
        assert!(!connection.is_deferred());
    }
    assert!(!connection.is_streaming(), "the head goes first");
    loop {
        let bytes = connection.output(&mut service).to_vec();
        if bytes.is_empty() {
            break;
        }
        connection.sent(bytes.len());
        output.extend(bytes);
    }
    assert!(connection.is_done());
    let output = String::from_utf8(output).unwrap();
    let (first, rest) = output.split_once("/a").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK"));
    assert!(
        rest.starts_with("HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nContent-Length: 5000")
    );
    let (head, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(
        !head.contains("Connection") && rest.starts_with("HTTP/1.1 200 OK"),
        "HEAD has no body"
    );
    let (_, rest) = rest.split_once("/b").unwrap();
    let (_, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(rest[5000..].starts_with("HTTP/1.1 200 OK") && rest.ends_with("/c"));
}
