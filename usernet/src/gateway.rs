//! The gateway: brings listeners, connections, the TCP/IP stack and the guest's frames together.

mod carried;
mod egress;
mod published;

use crate::classify::{self, Kind, Refusal};
use crate::connection::Fate;
use crate::counters::Counters;
use crate::flow::Flow;
use crate::frames::{FrameQueue, Link};
use crate::outbound::Outbound;
use crate::published::Published;
use crate::table::{Table, Token};
use crate::{Config, sys};
use epoll::{ControlOptions, Event, Events};
use smoltcp::iface::{self, Interface, PollResult, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv4Cidr};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Bit of epoll data that marks a listener; the rest is its index.
const LISTENER: u64 = 1 << 63;

/// Events taken from epoll at once.
const EVENTS_MAX: usize = 64;

/// Times epoll is asked in one poll while it has more.
const ROUNDS_MAX: usize = 16;

/// Connections accepted from one listener in one poll.
const ACCEPTS_MAX: usize = 64;

/// How long accepting rests after the host ran out of descriptors or memory, in ns.
const ACCEPT_REST_NS: u64 = 100_000_000;

/// How long unused memory is kept after the last connection, in ns.
const TRIM_AFTER_NS: u64 = 1_000_000_000;

/// When a connection is looked at again that the stack wants to serve at once but cannot, in ns.
const STUCK_NS: u64 = 200_000_000;

/// When a connection is looked at again whose frames find no room, in ns, for its time-outs' sake.
const BLOCKED_NS: u64 = 1_000_000_000;

/// A gateway between published host ports and one guest.
pub struct Gateway {
    config: Config,
    epoll: OwnedFd,
    listeners: Vec<(TcpListener, u16)>,
    published: Published,
    /// The way out, if there is one.
    outbound: Option<Outbound>,
    /// Listeners are out of epoll: too many connections, or the host is out of something.
    accepting: bool,
    /// When accepting resumes after the host ran out of something.
    rest_until: Option<u64>,
    /// Memory was used since it was last given back.
    untidy: bool,
    /// When unused memory is given back.
    trim_at: Option<u64>,
    stack: Interface,
    table: Table,
    queue: FrameQueue,
    /// Connections whose frames found no room.
    blocked: Vec<u32>,
    /// What the stack sees when a segment belongs to no connection.
    nobody: SocketSet<'static>,
    now_ns: u64,
    counters: Counters,
}

impl Gateway {
    /// A gateway that publishes each listener as a port of the guest.
    ///
    /// # Errors
    /// When the configuration makes no sense (the error names the field) or the host refuses an epoll
    /// descriptor or a socket option.
    pub fn new(config: Config, listeners: Vec<(TcpListener, u16)>) -> io::Result<Self> {
        config.check()?;
        let epoll = sys::create_epoll()?;
        for (listener, port) in &listeners {
            if *port == 0 {
                let what = "a published guest port is 0, not 1 to 65535";
                return Err(io::Error::new(ErrorKind::InvalidInput, what));
            }
            sys::prepare_listener(listener)?;
        }
        let mut queue = FrameQueue::new(&config);
        let seed = RandomState::new().hash_one(0);
        let mut gateway = Self {
            stack: new_stack(&config, &mut queue, seed),
            table: Table::new(config.first_port, seed >> 32),
            queue,
            config,
            epoll,
            listeners,
            published: Published::default(),
            outbound: None,
            accepting: false,
            rest_until: None,
            untidy: false,
            trim_at: None,
            blocked: Vec::new(),
            nobody: SocketSet::new(Vec::new()),
            now_ns: 0,
            counters: Counters::default(),
        };
        gateway.resume_accepting()?;
        Ok(gateway)
    }

    /// What it has counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            open: self.table.len() as u64,
            replies_dropped: self.queue.dropped,
            ..self.counters
        }
    }

    /// Says what time it is, in nanoseconds of monotonic time, before `transmit` and `poll`.
    pub fn begin(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Takes a frame of the guest. What it brings is carried on by the next [`Gateway::poll`].
    pub fn transmit(&mut self, frame: &[u8]) {
        match classify::classify(frame, &self.config) {
            Ok(Kind::ArpRequest) => self.queue.push_reply(&classify::arp_reply(&self.config)),
            Ok(Kind::Tcp(packet, flow, connects)) => self.take_segment(packet, flow, connects),
            Ok(Kind::Udp(flow, payload)) => self.take_datagram(flow, payload),
            Ok(Kind::Echo(packet)) => self.give_to_stack(packet, None),
            Err(Refusal::Malformed) => self.counters.frames_malformed += 1,
            Err(Refusal::Spoofed) => self.counters.frames_spoofed += 1,
            Err(Refusal::Unsupported) => self.counters.frames_unsupported += 1,
        }
    }

    fn take_segment(&mut self, packet: &[u8], flow: Flow, connects: bool) {
        match self.table.slot_of(&flow) {
            Some(slot) => {
                self.give_to_stack(packet, Some(slot));
                self.table.activate(slot);
            }
            None if connects => self.connect_out(packet, flow),
            None => self.give_to_stack(packet, None),
        }
    }

    fn take_datagram(&mut self, flow: Flow, payload: &[u8]) {
        if !self.published.answer(&flow, payload, self.now_ns, &mut self.counters) {
            self.send_out(flow, payload);
        }
    }

    /// Lets the stack process a packet for one connection, or for nobody.
    fn give_to_stack(&mut self, packet: &[u8], slot: Option<u32>) {
        let connection = slot.and_then(|slot| self.table.get(slot));
        let sockets = connection.map_or(&mut self.nobody, |found| &mut found.guest.set);
        let mut link = Link { incoming: Some(packet), queue: &mut self.queue };
        self.stack.poll_ingress_single(instant(self.now_ns), &mut link, sockets);
    }

    /// Does everything there is to do: takes in what the host's sockets have, carries bytes both ways,
    /// makes frames for the guest, and sees to time-outs.
    pub fn poll(&mut self) {
        self.resume_published();
        self.take_host_events();
        self.table.activate_due(self.now_ns);
        self.retry_blocked();
        let active = self.table.take_active();
        for &slot in &active {
            self.work(slot);
        }
        self.table.recycle(active);
        self.see_to_datagrams();
        self.see_to_accepting();
        self.see_to_memory();
    }

    /// The next frame for the guest, without preamble and check sequence and with the TCP checksum
    /// left out; it stays until [`Gateway::consume`].
    #[must_use]
    pub fn next_frame(&self) -> Option<&[u8]> {
        self.queue.front()
    }

    /// Drops the frame that [`Gateway::next_frame`] shows.
    pub fn consume(&mut self) {
        self.queue.pop();
    }

    /// Frames are held back for which there is room now: another poll would make them.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let waits = self.outbound.as_ref().is_some_and(|outbound| outbound.datagrams.has_ready());
        let blocked = !self.blocked.is_empty() || self.published.paused;
        (waits || blocked) && self.queue.has_room()
    }

    /// When it must be polled next at the latest, in nanoseconds of monotonic time. Not for the sake of memory that
    /// is unused: whoever does not poll for a while calls [`Gateway::tidy`].
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let datagrams = self.outbound.as_ref().and_then(|outbound| outbound.datagrams.deadline());
        let datagrams = datagrams.into_iter().chain(self.published.peers.deadline());
        let own = self.rest_until.into_iter().chain(datagrams).min();
        self.table.deadline().into_iter().chain(own).min()
    }

    /// Why another gateway cannot take its place, with the same sockets published, without the guest or
    /// anybody else losing something by it: "carries connections". What only waits in published sockets
    /// waits for the other one too.
    #[must_use]
    pub fn busy(&self) -> Option<&'static str> {
        if self.connections() > 0 {
            Some("carries connections")
        } else if !self.published.peers.is_empty() {
            Some("carries datagrams of peers who wrote to it lately")
        } else if self.outbound.as_ref().is_some_and(|outbound| !outbound.is_idle()) {
            Some("has datagrams or questions of the guest under way outside")
        } else {
            (!self.queue.is_empty()).then_some("has frames that the guest has not taken")
        }
    }

    fn take_host_events(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut events = [Event::new(Events::empty(), 0); EVENTS_MAX];
            // An error can only be an interruption by a signal: the next poll comes.
            let count = epoll::wait(self.epoll.as_raw_fd(), 0, &mut events).unwrap_or(0);
            let mut accepted = false;
            for event in &events[..count] {
                accepted |= self.take_host_event(event.events, event.data);
            }
            // New connections have events of their own, which would only cause another poll.
            if count < EVENTS_MAX && !accepted {
                return;
            }
        }
    }

    /// True when connections were accepted.
    fn take_host_event(&mut self, events: u32, data: u64) -> bool {
        if data == egress::OPENER {
            self.take_outcomes();
            return false;
        }
        if data & egress::CONVERSATION == egress::CONVERSATION {
            if let Some(outbound) = &mut self.outbound {
                outbound.datagrams.note_ready(data as u32);
            }
            return false;
        }
        if data & published::PUBLISHED == published::PUBLISHED {
            self.take_datagrams(data as u32);
            return false;
        }
        if data & LISTENER != 0 {
            return self.accept((data & !LISTENER) as usize);
        }
        let token = Token::from_bits(data);
        if let Some(connection) = self.table.by_token(token) {
            connection.note(Events::from_bits_truncate(events));
            self.table.activate(token.slot);
        }
        false
    }

    fn accept(&mut self, index: usize) -> bool {
        let mut any = false;
        for _ in 0..ACCEPTS_MAX {
            if self.connections() >= self.config.max_connections {
                self.pause_accepting();
                break;
            }
            let (listener, port) = &self.listeners[index];
            match sys::accept(listener) {
                Ok(stream) => any |= self.open(stream, *port),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_transient(&error) => {}
                Err(_) => {
                    self.counters.accept_failures += 1;
                    self.rest_until = Some(self.now_ns + ACCEPT_REST_NS);
                    self.pause_accepting();
                    break;
                }
            }
        }
        any
    }

    /// Starts a connection to the guest for one accepted on the host.
    fn open(&mut self, stream: TcpStream, guest_port: u16) -> bool {
        let flow = self.table.free_flow(self.config.gateway_ip, guest_port);
        let Some(slot) = self.add(stream, flow) else { return false };
        let Some(connection) = self.table.get(slot) else { return false };
        let to = IpEndpoint::new(self.config.guest_ip.into(), guest_port);
        let from = IpEndpoint::new(self.config.gateway_ip.into(), flow.remote.port());
        if connection.guest.socket().connect(self.stack.context(), to, from).is_err() {
            self.counters.accept_failures += 1;
            self.table.remove(slot, false);
            return false;
        }
        self.counters.accepted += 1;
        self.table.activate(slot);
        true
    }

    /// Adds a connection of the host and watches it; its slot.
    fn add(&mut self, stream: TcpStream, flow: Flow) -> Option<u32> {
        let fd = stream.as_raw_fd();
        let token = self.table.insert(stream, flow);
        let all = Events::EPOLLIN | Events::EPOLLOUT | Events::EPOLLRDHUP | Events::EPOLLET;
        if self.control(ControlOptions::EPOLL_CTL_ADD, fd, all, token.to_bits()).is_err() {
            // The host has no memory to watch it: the peer sees an end.
            self.counters.accept_failures += 1;
            self.table.remove(token.slot, false);
            return None;
        }
        Some(token.slot)
    }

    fn control(&self, option: ControlOptions, fd: RawFd, on: Events, data: u64) -> io::Result<()> {
        epoll::ctl(self.epoll.as_raw_fd(), option, fd, Event::new(on, data))
    }

    fn pause_accepting(&mut self) {
        if std::mem::take(&mut self.accepting) {
            for (listener, _) in &self.listeners {
                let fd = listener.as_raw_fd();
                // It can fail only if the listener is not watched, which is what is wanted.
                let _ = self.control(ControlOptions::EPOLL_CTL_DEL, fd, Events::empty(), 0);
            }
        }
    }

    fn resume_accepting(&mut self) -> io::Result<()> {
        for (index, (listener, _)) in self.listeners.iter().enumerate() {
            let (fd, data) = (listener.as_raw_fd(), LISTENER | index as u64);
            match self.control(ControlOptions::EPOLL_CTL_ADD, fd, Events::EPOLLIN, data) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.accepting = true;
        Ok(())
    }

    fn see_to_accepting(&mut self) {
        let rests = self.rest_until.is_some_and(|until| until > self.now_ns);
        if self.accepting || rests || self.connections() >= self.config.max_connections {
            return;
        }
        self.rest_until = None;
        if self.resume_accepting().is_err() {
            self.rest_until = Some(self.now_ns + ACCEPT_REST_NS);
        }
    }

    fn see_to_memory(&mut self) {
        let idle = self.busy().is_none();
        self.untidy |= !idle;
        match self.trim_at {
            _ if !idle || !self.untidy => self.trim_at = None,
            None => self.trim_at = Some(self.now_ns + TRIM_AFTER_NS),
            Some(at) if at > self.now_ns => {}
            Some(_) => self.tidy(),
        }
    }

    /// Gives unused memory back, if it carries nothing.
    pub fn tidy(&mut self) {
        if !self.untidy || self.busy().is_some() {
            return;
        }
        self.table.trim();
        if let Some(outbound) = &mut self.outbound {
            outbound.datagrams.trim();
        }
        self.published.trim();
        self.queue.trim();
        self.blocked = Vec::new();
        self.trim_at = None;
        self.untidy = false;
    }

    fn retry_blocked(&mut self) {
        if self.queue.has_room() {
            for slot in self.blocked.drain(..) {
                if let Some(connection) = self.table.get(slot) {
                    connection.blocked = false;
                }
                self.table.activate(slot);
            }
        }
    }

    /// Carries one connection's bytes, lets the stack send, and draws the conclusions.
    fn work(&mut self, slot: u32) {
        let Some(connection) = self.table.get(slot) else { return };
        connection.pump(&mut self.counters);
        self.queue.exhausted = false;
        let now = instant(self.now_ns);
        if connection.wants_stack() {
            let mut link = Link { incoming: None, queue: &mut self.queue };
            let sockets = &mut connection.guest.set;
            while self.stack.poll_egress(now, &mut link, sockets) != PollResult::None {
                // A segment without data is always the last. The stack does not always know that: it
                // would repeat an end that the guest's closed window keeps it from sending.
                if link.queue.ends_with_bare_segment() {
                    break;
                }
            }
        }
        let blocked = self.queue.exhausted;
        match connection.conclude(blocked, self.now_ns, &self.config, &mut self.counters) {
            Fate::Open => self.plan(slot, blocked),
            Fate::Finished => self.table.remove(slot, true),
            Fate::Dead => self.table.remove(slot, false),
        }
    }

    /// Sets when a connection is to be looked at next.
    fn plan(&mut self, slot: u32, blocked: bool) {
        let Some(connection) = self.table.get(slot) else { return };
        let mut deadline = connection.give_up_at;
        if blocked {
            deadline = deadline.into_iter().chain([self.now_ns + BLOCKED_NS]).min();
        } else if connection.wants_stack() {
            let stack = self.stack.poll_at(instant(self.now_ns), &connection.guest.set);
            let later = self.now_ns + STUCK_NS;
            let stack = stack.map(nanoseconds).map(|at| if at > self.now_ns { at } else { later });
            deadline = deadline.into_iter().chain(stack).min();
        }
        if blocked && !std::mem::replace(&mut connection.blocked, true) {
            self.blocked.push(slot);
        }
        self.table.set_deadline(slot, deadline);
    }
}

impl AsRawFd for Gateway {
    /// An epoll descriptor, readable when a host socket wants attention. It is the gateway's own:
    /// watch it, and call [`Gateway::poll`] when it is readable.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

fn new_stack(config: &Config, queue: &mut FrameQueue, seed: u64) -> Interface {
    let mut settings = iface::Config::new(HardwareAddress::Ip);
    settings.random_seed = seed;
    let mut link = Link { incoming: None, queue };
    let mut stack = Interface::new(settings, &mut link, Instant::from_micros(0));
    let own = Ipv4Cidr::new(config.gateway_ip, config.prefix_len);
    stack.update_ip_addrs(|addresses| {
        // The list has room for one at least, and is empty.
        let _ = addresses.push(IpCidr::Ipv4(own));
    });
    // So that connections to anywhere are refused with a reset rather than left to time out.
    stack.set_any_ip(true);
    stack
}

/// Whether accepting failed for one client's sake only.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros((now_ns / 1000) as i64)
}

fn nanoseconds(instant: Instant) -> u64 {
    (instant.total_micros().max(0) as u64).saturating_mul(1000)
}
