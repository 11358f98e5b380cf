//! Heads: of requests as they are written, and of answers as they are read.

use httparse::{Header, Response, Status};
use std::fmt::Write as _;

/// Largest head of an answer, in bytes.
pub(super) const HEAD_MAX: usize = 32 << 10;

/// Most fields of a head.
const FIELDS_MAX: usize = 64;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    UntilEnd,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its status.
    pub(super) status: u16,
    /// How the end of its body is known.
    pub(super) framing: Framing,
    /// Its size in bytes.
    pub(super) size: usize,
}

/// The head of an answer at the front of `bytes`; `None` if more of it is to come.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let size = match response.parse(bytes) {
        Ok(Status::Complete(size)) => size,
        Ok(Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(Status::Partial) => return Err("its head is too large".into()),
        Err(error) => return Err(format!("it is no HTTP: {error}")),
    };
    let status = response.code.unwrap_or(0);
    let framing = match status {
        100..=199 | 204 | 304 => Framing::Length(0),
        _ => framing(response.headers)?,
    };
    Ok(Some(Head { status, framing, size }))
}

fn framing(fields: &[Header<'_>]) -> Result<Framing, String> {
    let values = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    };
    let mut encodings = values("transfer-encoding");
    match (encodings.next(), encodings.next()) {
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => {
            return Ok(Framing::Chunked);
        }
        (None, _) => {}
        _ => return Err("its body is encoded in a way that is not known here".into()),
    }
    let mut lengths = values("content-length");
    let Some(first) = lengths.next() else { return Ok(Framing::UntilEnd) };
    let length = std::str::from_utf8(first)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|_| lengths.all(|other| other == first))
        .ok_or("it does not say how long its body is")?;
    Ok(Framing::Length(length))
}

/// A request with a body of JSON, or none.
pub(super) fn request(method: &str, target: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: denali\r\nConnection: close\r\n");
    if let Some(body) = body {
        // Writing to a string cannot fail.
        let _ =
            write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framing_of(fields: &str) -> Result<Framing, String> {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        parse(text.as_bytes()).map(|head| head.unwrap().framing)
    }

    #[test]
    fn the_end_of_a_body_is_known() {
        assert_eq!(framing_of("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing_of("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(framing_of(both), Ok(Framing::Chunked));
        assert_eq!(framing_of("Server: x\r\n"), Ok(Framing::UntilEnd));
        let same = "Content-Length: 3\r\nContent-Length: 3\r\n";
        assert_eq!(framing_of(same), Ok(Framing::Length(3)));
        for fields in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(framing_of(fields).is_err(), "{fields:?}");
        }
        let none = parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((none.status, none.framing), (204, Framing::Length(0)));
    }

    #[test]
    fn heads_are_bounded() {
        let text = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MAX));
        assert!(parse(text.as_bytes()).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        assert!(parse(many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(Some(head)) = parse(&bytes) {
                prop_assert!(head.size <= bytes.len());
            }
        }
    }
}
