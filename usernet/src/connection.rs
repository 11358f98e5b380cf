//! One connection: bytes, ends and resets between a host socket and the guest's TCP.

use crate::counters::Counters;
use crate::flow::Flow;
use crate::{Config, sys};
use epoll::Events;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

/// Bytes buffered from guest to host. Below 64 KiB the window needs no scaling, so that a window the
/// guest was promised in the first packet is never larger than the buffer.
const TO_HOST_BUFFER: usize = 65_535;

/// Bytes buffered from host to guest.
const TO_GUEST_BUFFER: usize = 65_536;

/// How long an acknowledgement waits for data to travel with.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// A socket of the TCP/IP stack with its buffers, in a set of its own: the stack works through whole
/// sets, and this way it looks at the connections that have something to do and at no other.
#[derive(Debug)]
pub struct GuestSide {
    pub set: SocketSet<'static>,
    handle: SocketHandle,
}

impl GuestSide {
    pub fn new() -> Self {
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; TO_HOST_BUFFER]),
            SocketBuffer::new(vec![0; TO_GUEST_BUFFER]),
        );
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle }
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// What becomes of a connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// Both directions ended in order; the guest's side can be used again.
    Finished,
    /// It was reset, and both sides know.
    Dead,
}

/// A connection and what is known about its host socket.
#[derive(Debug)]
pub struct Connection {
    /// None once the host's side is gone and only the guest has to be told.
    stream: Option<TcpStream>,
    pub guest: GuestSide,
    /// Its ends, by which the guest's segments find it.
    pub flow: Flow,
    /// It is in the list of connections to work on.
    pub active: bool,
    /// It is in the list of connections whose frames found no room.
    pub blocked: bool,
    /// A read may find something; cleared when one found the socket empty.
    readable: bool,
    /// A write may find room; cleared when one found the socket full.
    writable: bool,
    /// The host's peer has ended or is gone: reads go on until they say so.
    hung_up: bool,
    /// The host socket has failed.
    failed: bool,
    /// The host's end was read and passed on.
    host_ended: bool,
    /// The guest's end was passed on.
    guest_ended: bool,
    established: bool,
    /// The acknowledgement of the guest's end has left.
    last_ack_sent: bool,
    /// When an end that the guest does not acknowledge becomes a reset, in ns.
    pub give_up_at: Option<u64>,
}

impl Connection {
    pub fn new(stream: TcpStream, mut guest: GuestSide, flow: Flow) -> Self {
        guest.socket().set_ack_delay(Some(ACK_DELAY));
        Self {
            stream: Some(stream),
            guest,
            flow,
            active: false,
            blocked: false,
            readable: false,
            writable: true,
            hung_up: false,
            failed: false,
            host_ended: false,
            guest_ended: false,
            established: false,
            last_ack_sent: false,
            give_up_at: None,
        }
    }

    /// Notes what epoll said.
    pub fn note(&mut self, events: Events) {
        let hung_up = events.intersects(Events::EPOLLRDHUP | Events::EPOLLHUP);
        self.hung_up |= hung_up;
        self.readable |= hung_up || events.contains(Events::EPOLLIN);
        self.writable |= events.intersects(Events::EPOLLOUT | Events::EPOLLHUP);
        self.failed |= events.contains(Events::EPOLLERR);
    }

    /// Carries what there is both ways.
    pub fn pump(&mut self, counters: &mut Counters) {
        self.established |= self.guest.socket().may_send();
        if self.failed {
            self.reset_guest(counters);
        }
        if self.stream.is_some() {
            self.carry_to_host(counters);
        }
        if self.stream.is_some() {
            self.carry_to_guest(counters);
        }
    }

    fn carry_to_host(&mut self, counters: &mut Counters) {
        loop {
            let Some(mut stream) = self.stream.as_ref() else { return };
            let socket = self.guest.set.get_mut::<Socket<'static>>(self.guest.handle);
            if !self.writable && socket.can_recv() {
                return;
            }
            let result = socket.recv(|bytes| match bytes.len() {
                0 => (0, None),
                offered => match retry(|| stream.write(bytes)) {
                    Ok(written) => (written, Some(Ok((written, offered)))),
                    Err(error) => (0, Some(Err(error))),
                },
            });
            match result {
                Ok(Some(Ok((written, offered)))) => {
                    counters.bytes_to_host += written as u64;
                    // A short write filled the socket: epoll will say when there is room.
                    self.writable = written == offered;
                }
                Ok(Some(Err(error))) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                }
                Ok(Some(Err(_))) => return self.reset_guest(counters),
                Ok(None) | Err(RecvError::InvalidState) => return,
                Err(RecvError::Finished) => {
                    if !self.guest_ended {
                        self.guest_ended = true;
                        // It fails when the peer is gone, which reads and events report.
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                    return;
                }
            }
        }
    }

    fn carry_to_guest(&mut self, counters: &mut Counters) {
        while self.readable && !self.host_ended {
            let Some(mut stream) = self.stream.as_ref() else { return };
            let socket = self.guest.set.get_mut::<Socket<'static>>(self.guest.handle);
            if !socket.can_send() {
                return;
            }
            let result = socket.send(|room| match retry(|| stream.read(room)) {
                Ok(read) => (read, Ok((read, room.len()))),
                Err(error) => (0, Err(error)),
            });
            match result {
                Ok(Ok((0, _))) => {
                    self.host_ended = true;
                    socket.close();
                    socket.set_ack_delay(None);
                }
                Ok(Ok((read, room))) => {
                    counters.bytes_to_guest += read as u64;
                    // A short read emptied the socket: epoll will say when there is more.
                    self.readable = read == room || self.hung_up;
                }
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Ok(Err(_)) => return self.reset_guest(counters),
                Err(_) => return,
            }
        }
    }

    /// The host's side is gone: the guest gets a reset.
    fn reset_guest(&mut self, counters: &mut Counters) {
        if let Some(stream) = self.stream.take() {
            counters.reset_by_host += 1;
            sys::reset_on_close(&stream);
            self.guest.socket().abort();
        }
    }

    /// The guest's side is gone: the host gets a reset.
    fn reset_host(&mut self, counters: &mut Counters) {
        if let Some(stream) = self.stream.take() {
            if self.established {
                counters.reset_by_guest += 1;
            } else {
                counters.refused_by_guest += 1;
            }
            sys::reset_on_close(&stream);
        }
    }

    /// Whether the stack still has to look at the socket. After both ends it would only wait, and
    /// forget what a slow host has not taken yet.
    pub fn wants_stack(&mut self) -> bool {
        !self.last_ack_sent
    }

    /// Draws the conclusions of a step; `blocked`: the stack had more to send than there was room.
    pub fn conclude(
        &mut self,
        blocked: bool,
        now_ns: u64,
        config: &Config,
        counters: &mut Counters,
    ) -> Fate {
        let state = self.guest.socket().state();
        let ended = self.host_ended && self.guest_ended;
        match state {
            State::TimeWait => {
                self.last_ack_sent |= !blocked;
                if ended && self.last_ack_sent {
                    return Fate::Finished;
                }
            }
            // The guest asked for it, and thought better of it.
            State::Listen => {
                self.reset_host(counters);
                return Fate::Dead;
            }
            State::Closed if ended && self.stream.is_some() => return Fate::Finished,
            State::Closed => {
                // Bytes that came before the guest's end still belong to the host.
                let fin_waits = self.host_ended && self.ends_after_bytes();
                if !fin_waits {
                    self.reset_host(counters);
                    if self.guest.socket().remote_endpoint().is_none() {
                        return Fate::Dead;
                    }
                }
            }
            _ => {}
        }
        self.set_timers(state, now_ns, config);
        Fate::Open
    }

    /// The guest has ended in order, but its last bytes still wait for room on the host.
    fn ends_after_bytes(&mut self) -> bool {
        let socket = self.guest.socket();
        socket.remote_endpoint().is_none() && socket.can_recv() && !self.writable
    }

    fn set_timers(&mut self, state: State, now_ns: u64, config: &Config) {
        let closing = matches!(state, State::FinWait1 | State::Closing | State::LastAck);
        let socket = self.guest.socket();
        let unsent = socket.send_queue() > 0;
        let timeout = match state {
            State::SynSent | State::SynReceived => Some(config.connect_timeout),
            _ if unsent => Some(config.stall_timeout),
            _ => None,
        };
        socket
            .set_timeout(timeout.map(|timeout| Duration::from_micros(timeout.as_micros() as u64)));
        if !closing || unsent {
            self.give_up_at = None;
            return;
        }
        let patience = config.stall_timeout.as_nanos() as u64;
        let give_up_at = *self.give_up_at.get_or_insert(now_ns.saturating_add(patience));
        if give_up_at <= now_ns {
            self.give_up_at = None;
            self.guest.socket().abort();
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
