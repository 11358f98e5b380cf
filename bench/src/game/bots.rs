//! The bots: all of them on one thread, each with a socket of its own.

use crate::precedence::Precedence;
use anyhow::{Context, Result, bail};
use denali_game::{Bot, Client, Histogram, Stage};
use epoll::{ControlOptions, Event, Events};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// ns between two inputs of a bot: at random from the first to the second, 30 a second in the mean, so that
/// they fall anywhere between two ticks.
const BETWEEN_NS: (u64, u64) = (23_333_333, 43_333_333);

/// How long until all play.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of them.
struct Player {
    socket: UdpSocket,
    client: Client,
    bot: Bot,
}

/// All bots.
pub(super) struct Bots {
    epoll: File,
    players: Vec<Player>,
    /// When each sends next.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    start: Instant,
    random: u64,
    /// How long inputs took, in µs, while this is kept.
    latencies: Option<Histogram>,
    /// What those saw who joined again.
    before: Seen,
}

/// What bots have seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Snapshots that were complete and right.
    pub(super) snapshots: u64,
    /// Those that were wrong.
    pub(super) wrong: u64,
    /// Bots that lost their server and joined again.
    pub(super) lost: u64,
}

impl Bots {
    /// So many bots for each server, who have not said anything.
    pub(super) fn new(servers: &[SocketAddr], each: usize) -> Result<Self> {
        let epoll = epoll::create(true).context("cannot make an epoll")?;
        // SAFETY: the descriptor was made above and has no other owner.
        let epoll = unsafe { File::from_raw_fd(epoll) };
        let mut bots = Self {
            epoll,
            players: Vec::new(),
            timers: BinaryHeap::new(),
            start: Instant::now(),
            random: RandomState::new().hash_one(0) | 1,
            latencies: None,
            before: Seen::default(),
        };
        for _ in 0..each {
            servers.iter().try_for_each(|server| bots.add(*server))?;
        }
        Ok(bots)
    }

    /// Plays until everybody plays, and for `warm` more.
    pub(super) fn warm_up(&mut self, warm: Duration) -> Result<()> {
        let first = Precedence::take();
        let start = Instant::now();
        while !self.all_play() {
            if start.elapsed() > PATIENCE {
                let stages = self.players.iter().map(|it| it.client.stage());
                let idle = stages.filter(|it| !matches!(it, Stage::Playing(_))).count();
                bail!("{idle} of {} bots do not play", self.players.len());
            }
            self.step()?;
        }
        drop(first);
        self.play(warm)
    }

    /// Plays for so long.
    pub(super) fn play(&mut self, time: Duration) -> Result<()> {
        let _first = Precedence::take();
        let start = Instant::now();
        while start.elapsed() < time {
            self.step()?;
        }
        Ok(())
    }

    /// Plays for so long, and gives how long inputs took meanwhile.
    pub(super) fn record(&mut self, time: Duration) -> Result<Histogram> {
        self.latencies = Some(Histogram::default());
        self.play(time)?;
        Ok(self.latencies.take().unwrap_or_default())
    }

    /// What all have seen so far.
    pub(super) fn seen(&self) -> Seen {
        let counters = self.players.iter().map(|player| player.client.counters());
        counters.fold(self.before, |seen, it| Seen {
            snapshots: seen.snapshots + it.snapshots,
            wrong: seen.wrong + it.wrong,
            ..seen
        })
    }

    fn all_play(&self) -> bool {
        let stages = self.players.iter().map(|player| player.client.stage());
        stages.into_iter().all(|stage| matches!(stage, Stage::Playing(_)))
            && self.players.iter().all(|player| player.client.last().is_some())
    }

    fn add(&mut self, server: SocketAddr) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("cannot make a socket")?;
        socket.connect(server).context("cannot set up a socket")?;
        socket.set_nonblocking(true).context("cannot set up a socket")?;
        let number = self.players.len();
        let event = Event::new(Events::EPOLLIN, number as u64);
        let (epoll, fd) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        epoll::ctl(epoll, ControlOptions::EPOLL_CTL_ADD, fd, event)
            .context("cannot watch a socket")?;
        let (client, bot) = (Client::new(self.next_random()), Bot::new(self.next_random()));
        self.players.push(Player { socket, client, bot });
        let first = self.now_ns() + self.next_random() % BETWEEN_NS.1;
        self.timers.push(Reverse((first, number)));
        Ok(())
    }

    /// Sends what is due, and waits for the next thing to do.
    fn step(&mut self) -> Result<()> {
        self.send_due()?;
        let next = self.timers.peek().map_or(0, |Reverse((due, _))| *due);
        // Up to 1 ms late: latencies count from when an input was really sent.
        let timeout = next.saturating_sub(self.now_ns()).div_ceil(1_000_000) as i32;
        let mut events = [Event::new(Events::empty(), 0); 256];
        let count =
            epoll::wait(self.epoll.as_raw_fd(), timeout, &mut events).context("cannot wait")?;
        for event in &events[..count] {
            self.receive({ event.data } as usize)?;
        }
        Ok(())
    }

    fn send_due(&mut self) -> Result<()> {
        let now_ns = self.now_ns();
        while let Some(Reverse((due, number))) = self.timers.peek().copied()
            && due <= now_ns
        {
            self.timers.pop();
            let between = BETWEEN_NS.0 + self.next_random() % (BETWEEN_NS.1 - BETWEEN_NS.0);
            self.timers.push(Reverse((now_ns + between, number)));
            if matches!(self.players[number].client.stage(), Stage::Closed(_) | Stage::Lost) {
                self.join_again(number);
            }
            let sent_ns = self.now_ns();
            let Player { socket, client, bot } = &mut self.players[number];
            if let Some(datagram) = client.frame(sent_ns, |state, own| bot.wish(state, own)) {
                match socket.send(datagram) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => {
                        return Err(error).context("cannot send to a server");
                    }
                    // One that does not fit in is lost.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A bot that lost its server joins as somebody else.
    fn join_again(&mut self, number: usize) {
        let client = Client::new(self.next_random());
        let old = std::mem::replace(&mut self.players[number].client, client);
        self.before.snapshots += old.counters().snapshots;
        self.before.wrong += old.counters().wrong;
        self.before.lost += 1;
    }

    /// Takes one datagram; if there are more, the next wait says so again.
    fn receive(&mut self, number: usize) -> Result<()> {
        let mut buffer = [0; 2048];
        let Player { socket, client, .. } = &mut self.players[number];
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot receive from a server"),
        };
        client.receive(self.start.elapsed().as_nanos() as u64, &buffer[..len]);
        for latency in client.latencies() {
            if let Some(latencies) = &mut self.latencies {
                latencies.record(latency.ns / 1000);
            }
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
