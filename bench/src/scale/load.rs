//! The load: one thread that keeps some connections to each server busy, a request on each at a time.

use super::latencies::Latencies;
use crate::client::complete_body;
use anyhow::{Context, Result, bail};
use epoll::{ControlOptions, Event, Events};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// How long nothing at all may be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long everybody may take for the first answer. Who takes longer counts as one that waits.
const FIRST_ANSWERS: Duration = Duration::from_secs(20);

/// What is asked.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// How every answer begins.
const FINE: &[u8] = b"HTTP/1.1 200 ";

/// A connection, and the request that is out on it.
struct Connection {
    /// `None` once it is broken.
    stream: Option<TcpStream>,
    asked: Instant,
    /// The answer so far, of which no more is kept than the first one.
    received: usize,
    start: Vec<u8>,
    /// Bytes of every answer, known from the first one.
    length: Option<usize>,
}

/// What a run found.
pub(super) struct Answers {
    /// Requests answered per second.
    pub(super) per_s: f64,
    /// How long they took.
    pub(super) latencies: Latencies,
    /// Connections that broke so far: guests give up clients, and the gateway guests, that are silent for too
    /// long.
    pub(super) broken: usize,
}

/// What one look at a connection brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Part,
    Whole,
    Broken,
}

/// Connections to all servers.
pub(super) struct Load {
    epoll: File,
    connections: Vec<Connection>,
    /// Requests that are out at once, at most.
    most: usize,
    /// Connections on which nothing is asked at the moment.
    resting: Vec<usize>,
    /// State of the generator that picks among them.
    random: u64,
    buffer: Vec<u8>,
    /// Connections that have not answered yet.
    silent: usize,
}

impl Load {
    /// Connects `each` times to every server. Of all connections, any `most` have a request out at a time.
    pub(super) fn connect(servers: &[SocketAddr], each: usize, most: usize) -> Result<Self> {
        let epoll = epoll::create(true).context("cannot make an epoll")?;
        // SAFETY: the descriptor was made above and has no other owner.
        let epoll = unsafe { File::from_raw_fd(epoll) };
        let mut load = Self {
            epoll,
            connections: Vec::new(),
            most,
            resting: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            buffer: vec![0; 16 * 1024],
            silent: 0,
        };
        for _ in 0..each {
            for &server in servers {
                load.add(server)?;
            }
        }
        load.silent = load.connections.len();
        Ok(load)
    }

    fn add(&mut self, server: SocketAddr) -> Result<()> {
        let stream = TcpStream::connect(server).context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set up a connection")?;
        stream.set_nonblocking(true).context("cannot set up a connection")?;
        let event = Event::new(Events::EPOLLIN, self.connections.len() as u64);
        epoll::ctl(
            self.epoll.as_raw_fd(),
            ControlOptions::EPOLL_CTL_ADD,
            stream.as_raw_fd(),
            event,
        )
        .context("cannot watch a connection")?;
        let (asked, start) = (Instant::now(), Vec::new());
        let stream = Some(stream);
        self.connections.push(Connection { stream, asked, received: 0, start, length: None });
        Ok(())
    }

    /// Asks on all connections, until each has been answered once (if that does not take too long) and `warm`
    /// has passed.
    pub(super) fn warm_up(&mut self, warm: Duration) -> Result<()> {
        for connection in &mut self.connections {
            connection.ask();
        }
        let start = Instant::now();
        let mut unused = Latencies::default();
        while start.elapsed() < warm || (self.silent > 0 && start.elapsed() < FIRST_ANSWERS) {
            self.step(&mut unused)?;
        }
        if self.silent > 0 {
            eprintln!("  {} of {} connections: no answer yet", self.silent, self.connections.len());
        }
        Ok(())
    }

    /// Goes on for so long, and gives the latencies of what was answered meanwhile, and of what was not: a
    /// request that was out all the time has taken so long at least.
    pub(super) fn run(&mut self, time: Duration) -> Result<Answers> {
        let mut latencies = Latencies::default();
        let start = Instant::now();
        while start.elapsed() < time {
            self.step(&mut latencies)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let per_s = latencies.count() as f64 / seconds;
        let out = self.connections.iter().enumerate();
        let out = out.filter(|(number, connection)| {
            connection.asked < start && !self.resting.contains(number)
        });
        for (_, connection) in out {
            latencies.push(connection.asked.elapsed().as_nanos() as u64);
        }
        let broken =
            self.connections.iter().filter(|connection| connection.stream.is_none()).count();
        Ok(Answers { per_s, latencies, broken })
    }

    /// Waits for answers once, and asks again wherever there is one.
    fn step(&mut self, latencies: &mut Latencies) -> Result<()> {
        let mut events = [Event::new(Events::empty(), 0); 256];
        let patience = PATIENCE.as_millis() as i32;
        let count =
            epoll::wait(self.epoll.as_raw_fd(), patience, &mut events).context("cannot wait")?;
        if count == 0 {
            bail!("no server answered for {} s", PATIENCE.as_secs());
        }
        for event in &events[..count] {
            let number = { event.data } as usize;
            let connection = &mut self.connections[number];
            let is_first = connection.length.is_none();
            let progress = connection.receive(&mut self.buffer)?;
            if progress != Progress::Part {
                self.silent -= usize::from(is_first);
            }
            match progress {
                Progress::Part => {}
                Progress::Whole => {
                    latencies.push(connection.asked.elapsed().as_nanos() as u64);
                    self.ask_next(number);
                }
                // Closing it takes it out of epoll.
                Progress::Broken => connection.stream = None,
            }
        }
        Ok(())
    }
}

impl Load {
    /// Asks on the next connection, after `answered`: on the same, or on any that rests where not all may have a
    /// request out.
    fn ask_next(&mut self, answered: usize) {
        let out = self.connections.len() - self.resting.len();
        if out > self.most {
            self.resting.push(answered);
            return;
        }
        if self.resting.is_empty() {
            return self.connections[answered].ask();
        }
        // Xorshift: good enough to be nobody's favourite order.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let place = (self.random % self.resting.len() as u64) as usize;
        let next = std::mem::replace(&mut self.resting[place], answered);
        self.connections[next].ask();
    }
}

impl Connection {
    fn ask(&mut self) {
        self.asked = Instant::now();
        self.received = 0;
        // The socket's buffer is empty, because the last request was answered: so this fails only where the
        // connection is broken, which the next look at it finds.
        let _ = self.stream.as_mut().map(|stream| stream.write_all(REQUEST));
    }

    /// Reads once. An answer that is not what was asked for is an error.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Progress> {
        let Some(stream) = &mut self.stream else { return Ok(Progress::Part) };
        let count = match stream.read(buffer) {
            Ok(0) => return Ok(Progress::Broken),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Part),
            Err(_) => return Ok(Progress::Broken),
        };
        if self.received == 0 && count >= FINE.len() && !buffer.starts_with(FINE) {
            bail!("an answer other than 200");
        }
        self.received += count;
        let Some(length) = self.length else {
            self.start.extend_from_slice(&buffer[..count]);
            if complete_body(&self.start)?.is_none() {
                return Ok(Progress::Part);
            }
            self.length = Some(self.start.len());
            self.start = Vec::new();
            return Ok(Progress::Whole);
        };
        if self.received > length {
            bail!("an answer is longer than the first one was");
        }
        Ok(if self.received == length { Progress::Whole } else { Progress::Part })
    }
}
