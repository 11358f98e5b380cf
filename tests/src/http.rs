//! A small HTTP client over plain sockets, so that tests decide what goes into which packet.

use crate::guest::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    until: Instant,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines, without the status line.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    Client::connect(address).get(path)
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the port is open")
    }

    /// Connects to what may refuse.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream, Some(PATIENCE))?;
        }
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), until: Instant::now() + PATIENCE })
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes bytes");
    }

    /// Sends bytes, which the server may refuse.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a GET and reads the response.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// Sends a POST and reads the response.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &[u8]) -> Response {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.response()
    }

    /// Reads a response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response(true).expect("a response")
    }

    /// Reads the response to a HEAD: all but the body.
    #[track_caller]
    pub fn response_without_body(&mut self) -> Response {
        self.try_response(false).expect("a response")
    }

    /// Reads a response, if one comes.
    pub fn try_response(&mut self, with_body: bool) -> io::Result<Response> {
        let head = loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break self.received.drain(..end + 4).collect::<Vec<_>>();
            }
            self.receive()?;
        };
        let head = String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut lines = head.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("status line {first:?}")))?;
        let mut response = Response { status, headers: lines.collect(), body: Vec::new() };
        if with_body {
            let length = response.header("content-length").and_then(|value| value.parse().ok());
            let length: usize = length.ok_or_else(|| io::Error::other("no content-length"))?;
            while self.received.len() < length {
                self.receive()?;
            }
            response.body = self.received.drain(..length).collect();
        }
        Ok(response)
    }

    fn receive(&mut self) -> io::Result<()> {
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Reads until the server ends the connection; false when it resets it.
    pub fn ends_in_order(&mut self) -> bool {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
    }

    /// Whether anything has arrived, without waiting.
    pub fn has_bytes(&self) -> bool {
        let mut polled =
            libc::pollfd { fd: self.stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure is valid during the call.
        unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
    }

    /// Ends this direction; the other stays open.
    pub fn end_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection can be half closed");
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.option(libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
    }

    fn option<T>(&self, name: i32, value: &T) {
        // SAFETY: the value is valid, and as long as said, during the call.
        let set = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "a socket takes options");
    }
}
