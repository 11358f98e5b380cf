//! The smallest HTTP client: one GET on an open connection.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends the request.
pub(crate) fn send_get(stream: &mut TcpStream, path: &str) -> Result<()> {
    stream.set_nodelay(true).context("cannot set up a connection")?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set up a connection")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot send a request")
}

/// Receives the whole response, and gives its body.
pub(crate) fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut response = Vec::with_capacity(4096);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).context("cannot receive a response")?;
        if count == 0 {
            bail!("a connection ended in the midst of a response");
        }
        response.extend_from_slice(&buffer[..count]);
        if let Some(body) = complete_body(&response)? {
            return Ok(body.to_vec());
        }
    }
}

/// The body, once all of it is there.
pub(crate) fn complete_body(response: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&response[..end]).context("a response that is not text")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("an answer other than 200: {}", head.lines().next().unwrap_or_default());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = &response[end + 4..];
    Ok((body.len() >= length.context("a response without a length")?).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_complete_when_their_body_is() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc";
        assert_eq!(complete_body(text).unwrap(), Some(&b"abc"[..]));
        for length in 0..text.len() {
            assert_eq!(complete_body(&text[..length]).unwrap(), None, "{length}");
        }
        assert!(complete_body(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(complete_body(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
