//! A client that sends what it is told, right or wrong.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a client waits for anything at all: longer means that it will never come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A request as it is sent.
pub fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A connection.
pub struct Client(BufReader<UnixStream>);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub media: String,
    pub text: String,
}

impl Client {
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        // A server that has heard enough may have closed already.
        let _ = self.send(request.as_bytes());
        self.answer()
    }

    /// The whole answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let mut text = Vec::new();
        if answer.text == "chunked" {
            while let Some(chunk) = self.chunk() {
                text.extend(chunk);
            }
        } else {
            text.resize(answer.text.parse().unwrap_or(0), 0);
            self.0.read_exact(&mut text).unwrap();
        }
        answer.text = String::from_utf8(text).unwrap();
        answer
    }

    /// The answer's head; its text is `chunked` or the length of what follows.
    pub fn head(&mut self) -> Answer {
        let status = self.line();
        let code = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?}"));
        let mut answer =
            Answer { code: code.parse().unwrap(), media: String::new(), text: "0".into() };
        loop {
            let line = self.line();
            match line.split_once(": ") {
                None => return answer,
                Some(("content-type", media)) => answer.media = media.into(),
                Some(("content-length" | "transfer-encoding", text)) => answer.text = text.into(),
                Some(_) => {}
            }
        }
    }

    /// The next chunk, if there is one.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.0.read_exact(&mut chunk).unwrap();
        assert_eq!(self.line(), "");
        (size > 0).then_some(chunk)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What comes until the server closes the connection, in whatever way; fails if it does not.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            let closed = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(closed.contains(&error.kind()), "the connection is still open: {error}");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The message of a problem.
    pub fn message(&self) -> String {
        assert_eq!(self.media, "application/json", "{self:?}");
        self.json()["message"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}
