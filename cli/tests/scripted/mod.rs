//! A supervisor that gives the answers that it is told to give.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

/// A supervisor that answers one request after the other, each with the next of its answers, and then is gone.
pub(crate) struct Supervisor {
    requests: JoinHandle<Vec<String>>,
}

impl Supervisor {
    /// One that listens at a socket of that name in `folder`.
    pub(crate) fn new(folder: &Path, name: &str, answers: Vec<String>) -> Self {
        let listener = UnixListener::bind(folder.join(name)).unwrap();
        let requests = thread::spawn(move || {
            let serve = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                // Who has seen enough hangs up.
                let _ = stream.write_all(answer.as_bytes());
                request
            };
            answers.into_iter().map(serve).collect()
        });
        Self { requests }
    }

    /// The requests, each as method, target and body.
    pub(crate) fn requests(self) -> Vec<String> {
        self.requests.join().unwrap()
    }
}

fn read_request(stream: &mut UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "a request that ends in {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let line = head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
    format!("{line} {}", String::from_utf8(body).unwrap()).trim_end().to_owned()
}

/// An answer of one piece.
pub(crate) fn whole(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An answer that comes line by line.
pub(crate) fn stream<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> String {
    format!("{}0\r\n\r\n", cut_stream(lines))
}

/// The same, without its end.
pub(crate) fn cut_stream<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> String {
    let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for line in lines {
        let line = line.as_ref();
        text.push_str(&format!("{:x}\r\n{line}\n\r\n", line.len() + 1));
    }
    text
}

/// What becomes of a guest: nothing wrong, or what is wrong.
pub(crate) fn outcome(name: &str, error: Option<(u8, &str)>) -> String {
    match error {
        None => serde_json::json!({ "name": name }),
        Some((status, message)) => {
            serde_json::json!({ "name": name, "error": { "status": status, "message": message } })
        }
    }
    .to_string()
}

/// A guest in a line.
pub(crate) fn guest(name: &str, state: &str) -> serde_json::Value {
    serde_json::json!({
        "name": name, "id": "0".repeat(32), "tenant": "default", "state": state, "desired": "running",
        "address": "10.77.0.9", "image": "web", "pid": null, "memory_bytes": 16 << 20,
        "stored_bytes": 1_300_000, "wakes": 12, "restarts": 0, "since_ms": 1_700_000_000_000_u64,
        "active_ms": null, "packets": 34_567, "note": null,
    })
}

/// A guest and all that is known of it.
pub(crate) fn inspection(name: &str, console: Option<&Path>, control: Option<&Path>) -> String {
    serde_json::json!({
        "guest": guest(name, "running"), "configuration": { "image": "web", "name": name },
        "image_hash": "a".repeat(64), "template": null, "sequence": 3, "deadline_ms": null,
        "log": "/var/log/web.log", "control": control, "console": console, "resident_bytes": 700_000,
    })
    .to_string()
}

/// The host, with so many guests that run.
pub(crate) fn host(running: u64, since_ms: u64) -> String {
    serde_json::json!({
        "version": "0.1.0", "since_ms": since_ms, "guests": { "running": running, "parked": 40 },
        "memory": { "total": 24_u64 << 30, "available": 9_u64 << 30, "minimum_free": 1_u64 << 30, "budget": 0,
            "charged": 10_u64 << 30 },
        "swap": [{ "folder": "/var/swap", "total": 100_u64 << 30, "free": 60_u64 << 30, "problem": null }],
        "pool": { "size": 8, "ready": 7, "missed": 1 },
        "gate": { "queued": 2, "admitted": 100, "evicted": 3, "max_running": 12_000, "last": "room for all" },
        "wakes": 500, "parks": 540, "restarts": 1, "wake_us": [2100, 9800], "switch": true, "drains": false,
    })
    .to_string()
}
