//! The broker's one thread: takes requests, decides by the rules, and waits for many things at once
//! without any of them holding up another.

mod channel;
pub(crate) mod dns;
mod lookup;
mod names;
pub mod sandbox;
mod sys;

use crate::message::{Failure, MESSAGE_MAX, Reply, Request};
use crate::rules::Protocol;
use crate::spec::{Service, Spec};
use channel::{Channel, Closed};
use dns::{Asked, Code, Unanswerable};
use epoll::Events;
use lookup::{Lookup, Progress};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

/// How long a connection may take, in ns.
const CONNECT_PATIENCE_NS: u64 = 20_000_000_000;

/// Requests of one channel that may be worked on at once.
const IN_FLIGHT_MAX: usize = 128;

/// The same, of all channels: each needs a descriptor.
const IN_FLIGHT_TOTAL: usize = 512;

/// Requests read from one channel before others are looked at.
const REQUESTS_MAX: usize = 32;

/// The moment at which a broker starts, by its own time, in ns: there is a past for channels to have
/// rested in.
const START_NS: u64 = 3_600_000_000_000;

/// First token of what is waited for; lower ones are channels.
const FIRST_JOB: u64 = 1 << 32;

/// Something that is waited for.
struct Job {
    channel: usize,
    /// Number of the request.
    id: u32,
    work: Work,
}

enum Work {
    Connect { socket: OwnedFd, deadline_ns: u64 },
    Lookup(Lookup),
}

/// A broker at work.
pub struct Server {
    poller: sys::Poller,
    /// By token; none where it is closed.
    channels: Vec<Option<Channel>>,
    /// By token.
    jobs: HashMap<u64, Job>,
    next_job: u64,
    start: Instant,
}

impl Server {
    /// A server of the channels of `spec`, whose descriptors it owns from here on.
    ///
    /// # Errors
    /// When the host refuses something, or a channel's descriptor is none.
    pub fn new(spec: &Spec) -> io::Result<Self> {
        let poller = sys::Poller::new()?;
        let mut channels = Vec::with_capacity(spec.channels.len());
        for (token, described) in spec.channels.iter().enumerate() {
            // SAFETY: the description names each descriptor once, and this process has them for this
            // use alone. A number that is not open makes the next call fail, nothing else.
            let socket = unsafe { OwnedFd::from_raw_fd(described.socket) };
            poller.add(&socket, Events::EPOLLIN, token as u64)?;
            channels.push(Some(Channel::new(socket, described.service.clone())));
        }
        let (jobs, start) = (HashMap::new(), Instant::now());
        Ok(Self { poller, channels, jobs, next_job: FIRST_JOB, start })
    }

    /// Serves until all channels are closed at their other end.
    ///
    /// # Errors
    /// When the host refuses something without which nothing works. What monitors ask is no error.
    pub fn serve(&mut self) -> io::Result<()> {
        const EVENTS_MAX: usize = 64;
        let mut events = [epoll::Event::new(Events::empty(), 0); EVENTS_MAX];
        while self.channels.iter().any(Option::is_some) {
            let now_ns = self.now_ns();
            let timeout = self.deadline().map(|at| at.saturating_sub(now_ns));
            let count = self.poller.wait(timeout, &mut events)?;
            let now_ns = self.now_ns();
            for event in &events[..count] {
                let token = event.data;
                if token >= FIRST_JOB {
                    self.see_to_job(token, now_ns);
                } else if event.events & Events::EPOLLHUP.bits() != 0 {
                    // Whatever was asked before, nobody is there to be answered.
                    self.close(token as usize);
                } else {
                    self.see_to_channel(token as usize, now_ns);
                }
            }
            self.see_to_time(now_ns);
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        START_NS + self.start.elapsed().as_nanos() as u64
    }

    /// When something is to be done though nothing happens.
    fn deadline(&self) -> Option<u64> {
        let jobs = self.jobs.values().map(|job| job.work.deadline_ns());
        let channels = self.channels.iter().flatten();
        jobs.chain(channels.filter_map(Channel::read_again_at)).min()
    }

    /// Ends what has waited for too long, and reads again where reading had to rest.
    fn see_to_time(&mut self, now_ns: u64) {
        let due = self.jobs.iter().filter(|(_, job)| job.work.deadline_ns() <= now_ns);
        let due: Vec<u64> = due.map(|(&token, _)| token).collect();
        for token in due {
            self.time_out(token, now_ns);
        }
        for index in 0..self.channels.len() {
            self.watch_channel(index, now_ns);
        }
    }

    fn time_out(&mut self, token: u64, now_ns: u64) {
        let Some(job) = self.take_job(token) else { return };
        match job.work {
            Work::Connect { .. } => {
                self.answer((job.channel, job.id), &Reply::Failed(Failure::TimedOut), None);
            }
            Work::Lookup(lookup) => self.ask_next((job.channel, job.id), lookup, now_ns),
        }
    }

    /// Watches a channel for what is to be done there next.
    fn watch_channel(&mut self, index: usize, now_ns: u64) {
        let Some(channel) = &mut self.channels[index] else { return };
        let mut wanted = Events::empty();
        wanted.set(Events::EPOLLIN, channel.may_read(now_ns));
        wanted.set(Events::EPOLLOUT, channel.is_behind());
        if channel.watched != wanted {
            channel.watched = wanted;
            if self.poller.change(&channel.socket, wanted, index as u64).is_err() {
                self.close(index);
            }
        }
    }

    fn see_to_channel(&mut self, index: usize, now_ns: u64) {
        let Some(channel) = &mut self.channels[index] else { return };
        if channel.flush().is_err() {
            return self.close(index);
        }
        for _ in 0..REQUESTS_MAX {
            let Some(channel) = &mut self.channels[index] else { return };
            if !channel.may_read(now_ns) {
                return;
            }
            let mut buffer = [0; MESSAGE_MAX];
            match channel.receive(&mut buffer, now_ns) {
                Ok(Some(bytes)) => match Request::decode(bytes) {
                    Some((id, request)) => self.take_request((index, id), request, now_ns),
                    // No monitor says such things.
                    None => return self.close(index),
                },
                Ok(None) => return,
                Err(Closed) => return self.close(index),
            }
        }
    }

    fn take_request(&mut self, to: (usize, u32), request: Request<'_>, now_ns: u64) {
        let Some(channel) = &self.channels[to.0] else { return };
        match (&channel.service, request) {
            (Service::Egress { policy, .. }, Request::Connect { protocol, to: wanted }) => {
                let names = channel.names.of(*wanted.ip(), now_ns);
                match policy.destination(protocol, wanted, names) {
                    Some(real) => self.connect(to, protocol, real, now_ns),
                    None => self.answer(to, &Reply::Failed(Failure::Denied), None),
                }
            }
            (Service::Egress { .. }, Request::Question(message)) => {
                self.take_question(to, message, now_ns);
            }
            (Service::Socket { path }, Request::Reconnect) => match sys::connect_unix(path) {
                Ok(socket) => self.answer(to, &Reply::Connected, Some(socket)),
                Err(why) => self.answer(to, &Reply::Failed(why), None),
            },
            _ => self.answer(to, &Reply::Failed(Failure::Denied), None),
        }
    }

    fn connect(&mut self, to: (usize, u32), protocol: Protocol, real: SocketAddrV4, now_ns: u64) {
        if self.is_full(to.0) {
            return self.answer(to, &Reply::Failed(Failure::Busy), None);
        }
        match sys::start_connecting(protocol, real) {
            Ok(started) if started.connected => {
                self.answer(to, &Reply::Connected, Some(started.socket));
            }
            Ok(started) => {
                let deadline_ns = now_ns + CONNECT_PATIENCE_NS;
                self.add_job(to, Work::Connect { socket: started.socket, deadline_ns });
            }
            Err(why) => self.answer(to, &Reply::Failed(why), None),
        }
    }

    fn take_question(&mut self, to: (usize, u32), message: &[u8], now_ns: u64) {
        let Some(channel) = &self.channels[to.0] else { return };
        let Service::Egress { policy, resolvers } = &channel.service else { return };
        let asked = match Asked::parse(message) {
            Ok(asked) => asked,
            Err(Unanswerable::Unsupported) => {
                return self.answer(to, &Reply::Failed(Failure::Denied), None);
            }
            Err(Unanswerable::Malformed) => {
                return self.answer(to, &Reply::Failed(Failure::Unreachable), None);
            }
        };
        if !policy.allows_name(&asked.name) {
            return self.say(to, &asked, Code::Refused);
        }
        if !asked.wants_addresses {
            return self.say(to, &asked, Code::Empty);
        }
        if self.is_full(to.0) {
            return self.answer(to, &Reply::Failed(Failure::Busy), None);
        }
        match Lookup::start(asked.clone(), resolvers, now_ns) {
            Some(lookup) => self.add_job(to, Work::Lookup(lookup)),
            None => self.say(to, &asked, Code::Failed),
        }
    }

    fn is_full(&self, index: usize) -> bool {
        let own = self.channels[index].as_ref().map_or(0, |channel| channel.in_flight);
        own >= IN_FLIGHT_MAX || self.jobs.len() >= IN_FLIGHT_TOTAL
    }

    fn see_to_job(&mut self, token: u64, now_ns: u64) {
        let progress = match self.jobs.get(&token).map(|job| &job.work) {
            None => return,
            Some(Work::Connect { .. }) => Progress::Failed,
            Some(Work::Lookup(lookup)) => lookup.receive(),
        };
        if matches!(progress, Progress::Waiting) {
            return;
        }
        let Some(job) = self.take_job(token) else { return };
        let to = (job.channel, job.id);
        match (job.work, progress) {
            (Work::Connect { socket, .. }, _) => match sys::outcome(&socket) {
                Ok(()) => self.answer(to, &Reply::Connected, Some(socket)),
                Err(why) => self.answer(to, &Reply::Failed(why), None),
            },
            (Work::Lookup(lookup), Progress::Answered(message, found)) => {
                if let Some(channel) = &mut self.channels[to.0] {
                    for (address, ttl) in found.addresses {
                        channel.names.learn(&lookup.asked().name, address, ttl, now_ns);
                    }
                }
                self.answer(to, &Reply::Resolved(&message), None);
            }
            (Work::Lookup(lookup), _) => self.ask_next(to, lookup, now_ns),
        }
    }

    /// Asks the next name server, or gives up.
    fn ask_next(&mut self, to: (usize, u32), lookup: Lookup, now_ns: u64) {
        let Some(channel) = &self.channels[to.0] else { return };
        let Service::Egress { resolvers, .. } = &channel.service else { return };
        let asked = lookup.asked().clone();
        match lookup.next(resolvers, now_ns) {
            Some(lookup) => self.add_job(to, Work::Lookup(lookup)),
            None => self.say(to, &asked, Code::Failed),
        }
    }

    /// Answers a question without records.
    fn say(&mut self, to: (usize, u32), asked: &Asked, code: Code) {
        match asked.answer(code) {
            Some(message) => self.answer(to, &Reply::Resolved(&message), None),
            None => self.answer(to, &Reply::Failed(Failure::Unreachable), None),
        }
    }

    fn add_job(&mut self, to: (usize, u32), work: Work) {
        let token = self.next_job;
        self.next_job += 1;
        let (socket, events) = match &work {
            Work::Connect { socket, .. } => (socket, Events::EPOLLOUT),
            Work::Lookup(lookup) => (&lookup.socket, Events::EPOLLIN),
        };
        if self.poller.add(socket, events, token).is_err() {
            return self.answer(to, &Reply::Failed(Failure::Busy), None);
        }
        if let Some(channel) = &mut self.channels[to.0] {
            channel.in_flight += 1;
        }
        self.jobs.insert(token, Job { channel: to.0, id: to.1, work });
    }

    /// Takes a job that is over.
    fn take_job(&mut self, token: u64) -> Option<Job> {
        let job = self.jobs.remove(&token)?;
        self.poller.remove(job.work.socket());
        if let Some(channel) = &mut self.channels[job.channel] {
            channel.in_flight -= 1;
        }
        Some(job)
    }

    fn answer(&mut self, (index, id): (usize, u32), reply: &Reply<'_>, socket: Option<OwnedFd>) {
        if let Some(channel) = &mut self.channels[index]
            && channel.answer(id, reply, socket).is_err()
        {
            self.close(index);
        }
    }

    /// Forgets a channel and all that is done for it.
    fn close(&mut self, index: usize) {
        if let Some(channel) = self.channels[index].take() {
            self.poller.remove(&channel.socket);
        }
        let poller = &self.poller;
        self.jobs.retain(|_, job| {
            let kept = job.channel != index;
            if !kept {
                poller.remove(job.work.socket());
            }
            kept
        });
    }
}

impl Work {
    fn deadline_ns(&self) -> u64 {
        match self {
            Self::Connect { deadline_ns, .. } => *deadline_ns,
            Self::Lookup(lookup) => lookup.deadline_ns,
        }
    }

    fn socket(&self) -> &OwnedFd {
        match self {
            Self::Connect { socket, .. } => socket,
            Self::Lookup(lookup) => &lookup.socket,
        }
    }
}
