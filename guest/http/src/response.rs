//! Writing responses.

use crate::date::HttpDate;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Makes a long body piece by piece, as the client takes it.
pub trait Source {
    /// Appends the next bytes to `output`, at least one and at most `room`, for which it has room.
    fn fill(&mut self, output: &mut Vec<u8>, room: usize);
}

/// A body that is still being made.
pub(crate) struct Streaming {
    pub(crate) source: Box<dyn Source>,
    /// Bytes still to come.
    pub(crate) left: u64,
}

/// A request that will be answered later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deferred {
    pub(crate) head_only: bool,
    pub(crate) persistence: Persistence,
}

/// Proof that a request was answered or put off; only a [`Responder`] makes it.
#[derive(Debug)]
pub struct Sent(());

/// Answers one request.
pub struct Responder<'a> {
    pub(crate) output: &'a mut Vec<u8>,
    pub(crate) streaming: &'a mut Option<Streaming>,
    pub(crate) deferred: &'a mut Option<Deferred>,
    pub(crate) date: Option<&'a HttpDate>,
    /// The body is not sent, because the request was HEAD.
    pub(crate) head_only: bool,
    /// What is said about the connection.
    pub(crate) persistence: Persistence,
    /// There was no memory for the response: nothing of it was written.
    pub(crate) failed: &'a mut bool,
}

/// Bytes of a head without the header fields that the service gives.
const HEAD: usize = 256;

/// What a response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It stays open, as goes without saying in HTTP/1.1.
    Open,
    /// It stays open, which HTTP/1.0 has to be told.
    KeptAlive,
    /// It is closed afterwards.
    Closes,
}

impl Responder<'_> {
    /// Sends a complete response.
    pub fn send(self, status: u16, content_type: &str, body: &[u8]) -> Sent {
        self.send_with(status, &[("Content-Type", content_type)], body)
    }

    /// Sends a complete response with these header fields; `Content-Length`, `Connection` and
    /// `Date` are added. Names and values must be valid ones.
    pub fn send_with(mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        let body_len = if self.head_only { 0 } else { body.len() };
        if self.head(status, headers, Some(body.len() as u64), body_len) {
            self.output.extend_from_slice(&body[..body_len]);
        }
        Sent(())
    }

    /// Sends a response that never has a body, such as 204.
    pub fn send_empty(mut self, status: u16, headers: &[(&str, &str)]) -> Sent {
        self.head(status, headers, None, 0);
        Sent(())
    }

    /// Sends a response whose `length` bytes come from `source`.
    pub fn stream(
        self,
        status: u16,
        content_type: &str,
        length: u64,
        source: impl Source + 'static,
    ) -> Sent {
        self.stream_with(status, &[("Content-Type", content_type)], length, source)
    }

    /// Sends a response with these header fields whose `length` bytes come from `source`.
    pub fn stream_with(
        mut self,
        status: u16,
        headers: &[(&str, &str)],
        length: u64,
        source: impl Source + 'static,
    ) -> Sent {
        if self.head(status, headers, Some(length), 0) && !self.head_only && length > 0 {
            *self.streaming = Some(Streaming { source: Box::new(source), left: length });
        }
        Sent(())
    }

    /// Puts the answer off: the transport gives it, by
    /// [`Connection::answer_deferred`](crate::Connection::answer_deferred), when what it takes is there.
    /// Until then no other request of the connection is answered.
    pub fn defer(self) -> Sent {
        *self.deferred =
            Some(Deferred { head_only: self.head_only, persistence: self.persistence });
        Sent(())
    }

    /// Writes the head and makes room for `body_len` more bytes; false if there is no memory.
    fn head(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        length: Option<u64>,
        body_len: usize,
    ) -> bool {
        let output = &mut *self.output;
        let fields: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        if output.try_reserve(HEAD + fields + body_len).is_err() {
            *self.failed = true;
            return false;
        }
        output.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(output, u64::from(status));
        output.push(b' ');
        output.extend_from_slice(reason(status).as_bytes());
        output.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            push_field(output, name, value.as_bytes());
        }
        if let Some(length) = length {
            output.extend_from_slice(b"Content-Length: ");
            push_decimal(output, length);
            output.extend_from_slice(b"\r\n");
        }
        if let Some(date) = self.date {
            push_field(output, "Date", date.as_bytes());
        }
        match self.persistence {
            Persistence::Open => {}
            Persistence::KeptAlive => push_field(output, "Connection", b"keep-alive"),
            Persistence::Closes => push_field(output, "Connection", b"close"),
        }
        output.extend_from_slice(b"\r\n");
        true
    }
}

fn push_field(output: &mut Vec<u8>, name: &str, value: &[u8]) {
    output.extend_from_slice(name.as_bytes());
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

fn push_decimal(output: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[start..]);
}

/// The reason phrase of a status.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}
