//! The body of an answer, as a stream of bytes.

use super::chunked::{Chunked, NotChunked};
use super::head::{Framing, HEAD_MAX};
use crate::error::Error;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// Bytes that are read at a time; no head is larger.
const BUFFER: usize = 2 * HEAD_MAX;

/// A connection, and what was read from it and not used.
#[derive(Debug)]
pub(super) struct Buffered {
    stream: UnixStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffered {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// What was read and not used.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Uses up `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads more, behind what was not used: how much; 0 = there is no more, or no room.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let count = read(&mut self.stream, &mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Reads bytes as they are: at most as many as there is room for.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && self.fill()? == 0 {
            return Ok(0);
        }
        let count = out.len().min(self.end - self.start);
        out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.consume(count);
        Ok(count)
    }
}

/// Reads, and goes on where a signal came between.
fn read(stream: &mut UnixStream, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(out) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The body of an answer. Reading it fails with [`ErrorKind::UnexpectedEof`] where its connection ends before it
/// does, and with [`ErrorKind::InvalidData`] where it is malformed.
#[derive(Debug)]
pub struct Body {
    source: Buffered,
    rest: Rest,
}

/// What is to come of a body.
#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Chunked),
    UntilEnd,
}

impl Body {
    pub(super) fn new(source: Buffered, framing: Framing) -> Self {
        let rest = match framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunked::new()),
            Framing::UntilEnd => Rest::UntilEnd,
        };
        Self { source, rest }
    }

    /// All of it, if it has at most `limit` bytes.
    pub(crate) fn read_all(self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(Error::Malformed(format!("it has more than {limit} bytes")));
        }
        Ok(bytes)
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        match &mut self.rest {
            Rest::Length(0) => Ok(0),
            Rest::Length(left) => {
                let most = usize::try_from(*left).map_or(out.len(), |left| left.min(out.len()));
                let count = self.source.read(&mut out[..most])?;
                *left -= count as u64;
                if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
            }
            Rest::Chunked(chunked) => read_chunked(&mut self.source, chunked, out),
            Rest::UntilEnd => self.source.read(out),
        }
    }
}

fn read_chunked(source: &mut Buffered, chunked: &mut Chunked, out: &mut [u8]) -> io::Result<usize> {
    while !chunked.is_done() {
        if source.bytes().is_empty() && source.fill()? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let bytes = source.bytes();
        // A piece that is no longer than `out` has no more data than that.
        let piece = &bytes[..bytes.len().min(out.len())];
        let invalid = |error: NotChunked| io::Error::new(ErrorKind::InvalidData, error.to_string());
        let (taken, data) = chunked.take(piece).map_err(invalid)?;
        out[..data].copy_from_slice(&piece[taken - data..taken]);
        source.consume(taken);
        if data > 0 {
            return Ok(data);
        }
    }
    Ok(0)
}
