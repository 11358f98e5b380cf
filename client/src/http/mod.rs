//! HTTP/1.1 as far as a supervisor speaks it: one request and its answer on a connection, which blocks.

mod body;
mod chunked;
mod head;

pub use body::Body;

use crate::error::Error;
use body::Buffered;
use head::Head;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An answer, as far as its head.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// What follows.
    pub(crate) body: Body,
}

/// Asks, and waits for the head of the answer. `patience` is the longest time that nothing may come; `None` =
/// for ever.
pub(crate) fn ask(
    mut stream: UnixStream,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
    patience: Option<Duration>,
) -> Result<Answer, Error> {
    stream.set_read_timeout(patience).map_err(Error::Connection)?;
    stream.set_write_timeout(patience).map_err(Error::Connection)?;
    match stream.write_all(&head::request(method, target, body)) {
        // Who refuses a request may have answered without reading all of it.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    let mut source = Buffered::new(stream);
    let Head { status, framing, .. } = read_head(&mut source)?;
    Ok(Answer { status, body: Body::new(source, framing) })
}

/// The head of an answer, without those that say only that an answer is to come.
fn read_head(source: &mut Buffered) -> Result<Head, Error> {
    loop {
        match head::parse(source.bytes()).map_err(Error::Malformed)? {
            Some(head) => {
                source.consume(head.size);
                if !(100..200).contains(&head.status) {
                    return Ok(head);
                }
            }
            None => {
                if source.fill()? == 0 {
                    return Err(Error::Cut);
                }
            }
        }
    }
}
