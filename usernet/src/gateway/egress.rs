//! The gateway's way out: what the guest asks for, and what comes of it.

use super::{Gateway, LISTENER};
use crate::flow::Flow;
use crate::opener::{Failure, Opener, Outcome};
use crate::outbound::{Outbound, Waiting, Wish};
use crate::packets::Reason;
use crate::udp::{Take, push_unreachable};
use epoll::{ControlOptions, Events};
use smoltcp::wire::IpListenEndpoint;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

/// Epoll data of the opener.
pub(super) const OPENER: u64 = LISTENER | u32::MAX as u64;

/// Bits of epoll data that mark a conversation of datagrams; the rest is its slot.
pub(super) const CONVERSATION: u64 = LISTENER | 1 << 62;

/// Outcomes taken in one poll.
const OUTCOMES_MAX: usize = 64;

/// Port of name servers.
const DNS: u16 = 53;

/// An answer of a name server that refuses to answer (RFC 1035, section 4.1.1).
const REFUSED: u8 = 5;

impl Gateway {
    /// Lets the guest ask `opener` for connections; without one, it reaches nobody.
    ///
    /// # Errors
    /// When the host refuses to watch it.
    pub fn set_opener(&mut self, opener: Box<dyn Opener>) -> io::Result<()> {
        let add = ControlOptions::EPOLL_CTL_ADD;
        self.control(add, opener.as_raw_fd(), Events::EPOLLIN, OPENER)?;
        self.outbound = Some(Outbound::new(opener));
        Ok(())
    }

    /// Connections that count towards the most there may be.
    pub(super) fn connections(&self) -> usize {
        self.table.len() + self.outbound.as_ref().map_or(0, Outbound::waiting)
    }

    /// The guest wants to connect.
    pub(super) fn connect_out(&mut self, packet: &[u8], flow: Flow) {
        let full = self.connections() >= self.config.max_connections;
        let wish = match &mut self.outbound {
            None => Wish::Refused,
            // The guest's stack asks again.
            Some(_) if full => Wish::Dropped,
            Some(outbound) => outbound.connect(flow, packet),
        };
        if wish == Wish::Refused {
            self.refuse(packet);
        }
    }

    /// The guest's attempt to connect is answered by a reset.
    fn refuse(&mut self, packet: &[u8]) {
        self.counters.guest_connects_refused += 1;
        self.give_to_stack(packet, None);
    }

    /// The guest sends a datagram.
    pub(super) fn send_out(&mut self, flow: Flow, payload: &[u8]) {
        let Some(outbound) = &mut self.outbound else {
            self.counters.frames_unsupported += 1;
            return;
        };
        let to_gateway = *flow.remote.ip() == self.config.gateway_ip;
        if self.config.resolves && to_gateway && flow.remote.port() == DNS {
            self.counters.dns_queries += 1;
            match outbound.resolve(flow, payload) {
                Wish::Asked => {}
                Wish::Dropped | Wish::Refused => self.counters.datagrams_dropped += 1,
            }
            return;
        }
        let surroundings = (&self.config, &mut self.queue, &mut self.counters);
        if outbound.datagrams.send(&flow, payload, self.now_ns, surroundings) == Take::Done {
            return;
        }
        match outbound.converse(flow, payload, self.now_ns) {
            Wish::Asked => {}
            Wish::Dropped => self.counters.datagrams_dropped += 1,
            Wish::Refused => self.fail_datagram(&flow, Failure::Denied),
        }
    }

    /// Takes in what has become of what the guest asked for.
    pub(super) fn take_outcomes(&mut self) {
        for _ in 0..OUTCOMES_MAX {
            let Some(outbound) = &mut self.outbound else { return };
            match outbound.opener.next() {
                None => return,
                Some(Outcome::Connected { id, socket }) => self.take_socket(id, socket),
                Some(Outcome::Failed { id, why }) => self.take_failure(id, why),
                Some(Outcome::Resolved { id, message }) => {
                    let message = message.to_vec();
                    self.take_answer(id, &message);
                }
                Some(Outcome::Gone) => return self.lose_opener(),
            }
        }
    }

    fn take_socket(&mut self, id: u32, socket: OwnedFd) {
        let Some(outbound) = &mut self.outbound else { return };
        if let Some(waiting) = outbound.take_waiting(id) {
            return self.open_out(&waiting, TcpStream::from(socket));
        }
        let Some(slot) = outbound.datagrams.waiting_for(id) else { return };
        let on = Events::EPOLLIN | Events::EPOLLET;
        let (fd, data) = (socket.as_raw_fd(), CONVERSATION | u64::from(slot));
        outbound.datagrams.opened(slot, socket, &mut self.counters);
        self.counters.conversations += 1;
        if self.control(ControlOptions::EPOLL_CTL_ADD, fd, on, data).is_err() {
            // The host has no memory to watch it.
            if let Some(outbound) = &mut self.outbound {
                outbound.datagrams.remove(slot);
            }
        }
    }

    /// The host's connection is up: the guest's attempt may succeed.
    fn open_out(&mut self, waiting: &Waiting, stream: TcpStream) {
        let flow = waiting.flow;
        if self.table.slot_of(&flow).is_some() {
            return;
        }
        let Some(slot) = self.add(stream, flow) else { return };
        let Some(connection) = self.table.get(slot) else { return };
        let addr = Some((*flow.remote.ip()).into());
        let endpoint = IpListenEndpoint { addr, port: flow.remote.port() };
        if connection.guest.socket().listen(endpoint).is_err() {
            self.table.remove(slot, false);
            return;
        }
        self.counters.egress_connects += 1;
        self.give_to_stack(&waiting.opening, Some(slot));
        self.table.activate(slot);
    }

    fn take_failure(&mut self, id: u32, why: Failure) {
        let Some(outbound) = &mut self.outbound else { return };
        // A question that is not answered is repeated by the guest.
        outbound.take_question(id);
        if let Some(waiting) = outbound.take_waiting(id) {
            if why != Failure::Busy {
                self.counters.egress_refused += 1;
                self.refuse(&waiting.opening);
            }
            return;
        }
        let Some(slot) = outbound.datagrams.waiting_for(id) else { return };
        if let Some(flow) = outbound.datagrams.remove(slot) {
            self.fail_datagram(&flow, why);
        }
    }

    fn fail_datagram(&mut self, flow: &Flow, why: Failure) {
        self.counters.datagrams_dropped += 1;
        let reason = match why {
            Failure::Busy => return,
            Failure::Denied => Reason::Prohibited,
            Failure::Unreachable => Reason::Port,
        };
        self.counters.egress_refused += 1;
        push_unreachable(&mut self.queue, reason, flow, &self.config);
    }

    fn take_answer(&mut self, id: u32, message: &[u8]) {
        let Some(flow) = self.outbound.as_mut().and_then(|outbound| outbound.take_question(id))
        else {
            return;
        };
        let refused = message.get(3).is_some_and(|flags| flags & 0xf == REFUSED);
        self.counters.dns_refused += u64::from(refused);
        if self.queue.has_room() {
            self.queue.push_datagram(&flow, &self.config, message);
        } else {
            self.counters.datagrams_dropped += 1;
        }
    }

    /// Nothing more comes from the opener: who waits is refused, and so is everybody later.
    fn lose_opener(&mut self) {
        let Some(outbound) = &mut self.outbound else { return };
        let fd = outbound.opener.as_raw_fd();
        let waiting = outbound.give_up();
        // It can fail only if it is not watched, which is what is wanted.
        let _ = self.control(ControlOptions::EPOLL_CTL_DEL, fd, Events::empty(), 0);
        for waiting in waiting {
            self.counters.egress_refused += 1;
            self.refuse(&waiting.opening);
        }
    }

    /// Carries datagrams to the guest, and forgets conversations that rest.
    pub(super) fn see_to_datagrams(&mut self) {
        if let Some(outbound) = &mut self.outbound {
            let (queue, counters) = (&mut self.queue, &mut self.counters);
            outbound.datagrams.receive(self.now_ns, &self.config, queue, counters);
            outbound.datagrams.sweep(self.now_ns);
        }
        self.published.peers.sweep(self.now_ns);
    }
}
