//! The native server: one thread, epoll, sockets of the host's kernel, and the guest's HTTP code.

use anyhow::{Context, Result};
use denali_http::{
    Connection, HttpDate, Limits, Method, Request, Responder, Route, Sent, Service, route,
};
use epoll::{ControlOptions, Event, Events};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// This program as the native server of `page`, listening at `address`.
pub(crate) fn command(page: &[u8], address: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(["native-server", address]);
    with_page(command, page)
}

/// The same command, with the page on its standard input.
pub(crate) fn with_page(mut command: Command, page: &[u8]) -> Result<Command> {
    let mut file: File = tempfile::tempfile().context("cannot make a file")?;
    file.write_all(page).and_then(|()| file.rewind()).context("cannot write a file")?;
    command.stdin(file);
    Ok(command)
}

/// What is served: the page as the guest serves it.
struct Site {
    index: Vec<u8>,
    date: HttpDate,
}

const ROUTES: &[Route<Site>] = &[Route { methods: &[Method::Get], path: "/", handler: index }];

fn index(site: &mut Site, _: &Request<'_>, responder: Responder<'_>) -> Sent {
    responder.send(200, "text/html; charset=utf-8", &site.index)
}

impl Service for Site {
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        route(ROUTES, self, request, responder)
    }

    fn date(&mut self) -> Option<&HttpDate> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.date.update(now.as_secs());
        Some(&self.date)
    }
}

/// Serves what standard input holds at `address`, whose port may be of the kernel's choice and is
/// announced on standard output; for good.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let mut site = Site { index: Vec::new(), date: HttpDate::new(0) };
    io::stdin().read_to_end(&mut site.index).context("cannot read the page")?;
    let listener = TcpListener::bind(address).context("cannot listen")?;
    listener.set_nonblocking(true).context("cannot listen")?;
    println!("{{\"host\":\"{}\"}}", listener.local_addr().context("cannot listen")?);
    Native {
        epoll: epoll::create(true).context("cannot make an epoll")?,
        site,
        open: HashMap::new(),
    }
    .run(&listener)
    .context("the native server failed")
}

/// The server's state.
struct Native {
    epoll: RawFd,
    site: Site,
    open: HashMap<RawFd, (TcpStream, Connection)>,
}

impl Native {
    fn run(&mut self, listener: &TcpListener) -> io::Result<()> {
        self.watch(listener.as_raw_fd(), Events::EPOLLIN, ControlOptions::EPOLL_CTL_ADD)?;
        let mut events = [Event::new(Events::empty(), 0); 64];
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = epoll::wait(self.epoll, -1, &mut events)?;
            for event in &events[..count] {
                let fd = { event.data } as RawFd;
                if fd == listener.as_raw_fd() {
                    self.accept(listener)?;
                } else if !self.serve(fd, &mut buffer).unwrap_or(false) {
                    // Done or broken: closing takes it out of epoll.
                    self.open.remove(&fd);
                }
            }
        }
    }

    fn watch(&self, fd: RawFd, events: Events, operation: ControlOptions) -> io::Result<()> {
        epoll::ctl(self.epoll, operation, fd, Event::new(events, fd as u64))
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let fd = stream.as_raw_fd();
            self.watch(fd, Events::EPOLLIN, ControlOptions::EPOLL_CTL_ADD)?;
            self.open.insert(fd, (stream, Connection::new(Limits::default())));
        }
    }

    /// One read and what follows from it; false when the connection is over.
    fn serve(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<bool> {
        let Some((stream, connection)) = self.open.get_mut(&fd) else { return Ok(true) };
        if connection.wants_input() {
            match stream.read(buffer) {
                Ok(0) => connection.end_of_input(),
                Ok(count) => connection.receive(&buffer[..count], &mut self.site),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let output = connection.output(&mut self.site);
            if output.is_empty() {
                break;
            }
            match stream.write(output) {
                Ok(count) => connection.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.watch(fd, Events::EPOLLOUT, ControlOptions::EPOLL_CTL_MOD)?;
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(!connection.is_done())
    }
}
