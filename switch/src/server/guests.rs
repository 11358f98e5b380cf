//! Guests that are connected: their sockets, and what they send.

use super::delivery::Run;
use super::sys::Batch;
use super::{GUEST, Server, Timer};
use crate::fabric::{ForHost, Verdict};
use crate::frame::{ETHERNET, Reason, Transport};
use crate::header::HEADER;
use crate::protocol::PortNumber;
use denali_usernet::Protocol;
use epoll::Events;
use nix::errno::Errno;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

/// Batches that are still read from the socket of a guest that another takes the place of.
const LAST_BATCHES: usize = 16;

/// A guest that is connected.
#[derive(Debug)]
pub struct Guest {
    pub socket: OwnedFd,
    port: PortNumber,
    /// It is among those that may have sent something.
    ready: bool,
    /// It sent too fast, and is read again at a time that a timer knows.
    rests: bool,
    /// A timer knows when it may get more.
    pub flush_is_due: bool,
    /// Its socket takes no more, and is watched until it does.
    pub full: bool,
    watched_for_room: bool,
    /// Its other end is closed; what was sent before is still to be read.
    pub hung_up: bool,
    /// Reading has failed once.
    failed: bool,
}

/// The guests that are connected, each in a place of its own.
#[derive(Debug, Default)]
pub struct Guests {
    slots: Vec<Option<Guest>>,
    free: Vec<u32>,
}

impl Guests {
    /// Number of guests.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The guest in a place.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Guest> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn add(&mut self, guest: Guest) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(guest);
                slot
            }
            None => {
                self.slots.push(Some(guest));
                self.slots.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, slot: u32) -> Option<Guest> {
        let guest = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(guest)
    }
}

/// What became of reading from a guest's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// There may be more.
    More,
    /// There is no more for now.
    Empty,
    /// Nobody is there any more.
    End,
}

/// What a guest's socket is watched for, always: an event comes whenever there is something new.
fn always() -> Events {
    Events::EPOLLIN | Events::EPOLLRDHUP | Events::EPOLLET
}

impl Server {
    /// Connects a guest to a port, and gives it what waits.
    pub(super) fn connect(&mut self, port: PortNumber, socket: OwnedFd) -> io::Result<()> {
        self.disconnect(port);
        let guest = Guest {
            socket,
            port,
            ready: false,
            rests: false,
            flush_is_due: false,
            full: false,
            watched_for_room: false,
            hung_up: false,
            failed: false,
        };
        let slot = self.guests.add(guest);
        let token = GUEST | u64::from(slot);
        let added = match self.guests.get_mut(slot) {
            Some(guest) => self.poller.add(&guest.socket, always(), token),
            None => Ok(()),
        };
        if let Err(error) = added {
            self.guests.remove(slot);
            return Err(error);
        }
        if let Some(entry) = self.fabric.ports.get_mut(port) {
            entry.guest = Some(slot);
            if let Some(line) = &mut entry.line {
                line.wanted_ns = None;
            }
        }
        self.wanted.retain(|&wanted| wanted != port);
        self.flush(port);
        Ok(())
    }

    /// Takes a guest from its port, when it has been read to the end or for long enough.
    pub(super) fn disconnect(&mut self, port: PortNumber) {
        let Some(slot) = self.fabric.ports.get(port).and_then(|entry| entry.guest) else { return };
        for _ in 0..LAST_BATCHES {
            if self.read_guest(slot) != Read::More {
                break;
            }
        }
        self.take_guest(slot);
    }

    fn take_guest(&mut self, slot: u32) -> Option<PortNumber> {
        let guest = self.guests.remove(slot)?;
        if guest.ready {
            self.ready.retain(|&ready| ready != slot);
        }
        if let Some(entry) = self.fabric.ports.get_mut(guest.port) {
            entry.guest = None;
        }
        Some(guest.port)
    }

    /// A guest is gone: what it did not take waits for it, if it is of a kind that does.
    fn lose_guest(&mut self, slot: u32) {
        let Some(port) = self.take_guest(slot) else { return };
        if self.supervisor.is_some() {
            self.gone.push(port);
        }
        let Some(entry) = self.fabric.ports.get_mut(port) else { return };
        let mut held = Vec::new();
        while let Some(one) = self.fabric.waiting.take(&mut entry.line) {
            held.push(one);
        }
        for one in held {
            self.hold(port, &one.message, one.since_ns, one.published);
        }
    }

    /// Watches a guest's socket for room, if that is what it lacks.
    pub(super) fn watch_guest(&mut self, slot: u32) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        if guest.full == guest.watched_for_room {
            return;
        }
        let mut events = always();
        events.set(Events::EPOLLOUT, guest.full);
        let token = GUEST | u64::from(slot);
        if self.poller.change(&guest.socket, events, token).is_ok() {
            guest.watched_for_room = guest.full;
        }
    }

    pub(super) fn see_to_guest(&mut self, slot: u32, events: Events) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        let port = guest.port;
        guest.hung_up |=
            events.intersects(Events::EPOLLHUP | Events::EPOLLRDHUP | Events::EPOLLERR);
        // Nothing more comes, so that what is there is read at once.
        guest.rests &= !guest.hung_up;
        if events.contains(Events::EPOLLOUT) && std::mem::take(&mut guest.full) {
            self.watch_guest(slot);
            self.flush(port);
        }
        self.make_ready(slot);
    }

    /// Gives a guest a turn, unless it rests or has one already.
    pub(super) fn make_ready(&mut self, slot: u32) {
        if let Some(guest) = self.guests.get_mut(slot)
            && !guest.rests
            && !std::mem::replace(&mut guest.ready, true)
        {
            self.ready.push_back(slot);
        }
    }

    /// The time has come at which a guest may send more.
    pub(super) fn read_again(&mut self, slot: u32) {
        if let Some(guest) = self.guests.get_mut(slot) {
            guest.rests = false;
            self.make_ready(slot);
        }
    }

    /// A guest's turn: one batch of its frames.
    pub(super) fn serve_guest(&mut self, slot: u32) {
        let Some(guest) = self.guests.get_mut(slot) else { return };
        guest.ready = false;
        let Some(entry) = self.fabric.ports.get(guest.port) else { return };
        if !guest.hung_up && !entry.sends.passes(entry.rate, self.now_ns) {
            guest.rests = true;
            self.timers.set(entry.sends.ready_at(), Timer::Read(slot));
            return;
        }
        match self.read_guest(slot) {
            Read::More => self.make_ready(slot),
            Read::Empty => {}
            Read::End => self.lose_guest(slot),
        }
    }

    /// Reads a batch of a guest's frames and carries them on.
    fn read_guest(&mut self, slot: u32) -> Read {
        let Some(mut batch) = self.batch.take() else { return Read::Empty };
        let read = self.read_into(slot, &mut batch);
        self.batch = Some(batch);
        // What it sent to the gateway may be for connections of a published port.
        if let Some(port) = self.published.touched.take() {
            self.run_gateway(port);
        }
        read
    }

    fn read_into(&mut self, slot: u32, batch: &mut Batch) -> Read {
        let Some(guest) = self.guests.get_mut(slot) else { return Read::Empty };
        let count = match batch.receive(&guest.socket) {
            Ok(count) => count,
            Err(Errno::EAGAIN) if guest.hung_up => return Read::End,
            Err(Errno::EAGAIN) => return Read::Empty,
            // That the other end was closed with frames unread is said once, before what came from there.
            Err(_) if !std::mem::replace(&mut guest.failed, true) => {
                guest.hung_up = true;
                return Read::More;
            }
            Err(_) => return Read::End,
        };
        let (port, hung_up) = (guest.port, guest.hung_up);
        // No frame is empty: this is the end.
        let end = (0..count).find(|&index| batch.message(index).is_empty());
        self.carry(port, batch, end.unwrap_or(count));
        match end {
            Some(_) => Read::End,
            None if count < super::BATCH && !hung_up => Read::Empty,
            None => Read::More,
        }
    }

    /// Carries on the first frames of a batch, which a port's guest has sent.
    fn carry(&mut self, port: PortNumber, batch: &mut Batch, count: usize) {
        let mut bytes = 0;
        let mut dropped = 0;
        let mut run = Run::default();
        for index in 0..count {
            let message = batch.message(index);
            bytes += message.len();
            let mut verdict = self.fabric.take_from_guest(port, message, &mut self.answer);
            if let Verdict::Host(wanted) = verdict {
                verdict = self.carry_to_host(port, message, &wanted);
            }
            match verdict {
                Verdict::Port(to, length) => {
                    if !run.add(to, index, length) {
                        self.deliver_run(batch, &run);
                        run = Run::default();
                        run.add(to, index, length);
                    }
                }
                Verdict::Answered => {
                    let answer = std::mem::take(&mut self.answer);
                    self.deliver(port, &[&answer], false);
                    self.answer = answer;
                }
                Verdict::Host(_) => {}
                Verdict::Dropped(reason) => {
                    self.fabric.count_drops(reason, 1);
                    dropped += 1;
                }
            }
        }
        self.deliver_run(batch, &run);
        self.account(port, count as u64, bytes, dropped);
    }

    fn account(&mut self, port: PortNumber, frames: u64, bytes: usize, dropped: u64) {
        if frames == 0 {
            return;
        }
        self.fabric.counters.sent += frames;
        self.fabric.counters.sent_bytes += bytes as u64;
        self.shared.sent(port, frames, self.now_ns);
        self.shared.dropped(port, dropped);
        if let Some(entry) = self.fabric.ports.get_mut(port) {
            entry.sends.charge(entry.rate, bytes, self.now_ns);
        }
    }

    /// Carries a packet to a connection of a published port, or to the host.
    fn carry_to_host(&mut self, port: PortNumber, message: &mut [u8], wanted: &ForHost) -> Verdict {
        let done = Verdict::Host(*wanted);
        let frame = &mut message[HEADER..HEADER + ETHERNET + wanted.packet.length];
        if wanted.gateway {
            let ports = match wanted.packet.transport {
                Transport::Tcp(it) => Some((Protocol::Tcp, it.source_port, it.destination_port)),
                Transport::Udp(from, to) => Some((Protocol::Udp, from, to)),
                _ => None,
            };
            if let Some((protocol, from, to)) = ports {
                let gateway = SocketAddrV4::new(self.fabric.options.gateway, to);
                if self.published.take(port, (protocol, from, gateway), frame, self.now_ns) {
                    return done;
                }
            }
        }
        let Some(uplink) = &self.uplink else {
            return self.fabric.answer_for_host(frame, wanted, &mut self.answer);
        };
        match uplink.send(wanted.header, &mut frame[ETHERNET..]) {
            Ok(()) => {
                self.fabric.counters.uplink_sent += 1;
                done
            }
            Err(_) => Verdict::Dropped(Reason::Refused),
        }
    }
}
