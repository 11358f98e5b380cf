//! The supervisor's connection: one at a time, greeted, not read while it does not read.

use super::{CONTROL, SUPERVISOR, Server, Timer, control};
use crate::message;
use crate::ports::Entry;
use crate::protocol::{Ask, MESSAGE_MAX, Port, PortNumber, Told, VERSION};
use epoll::Events;
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};
use nix::unistd::geteuid;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Requests read before guests have their turn.
const REQUESTS_MAX: usize = 32;

/// How long no supervisor is accepted when the host is out of something, in ns.
const REST_NS: u64 = 100_000_000;

/// Messages that may wait for a supervisor before nothing more is read of it. It may have sent very much, without reading
/// meanwhile, that is not answered.
const OUTBOX_MAX: usize = 64;

/// Ports named in one message.
const NAMED_MAX: usize = 4096;

/// A supervisor.
#[derive(Debug)]
pub struct Supervisor {
    socket: OwnedFd,
    greeted: bool,
    /// Messages that it has not taken, and whether the table goes along.
    outbox: VecDeque<(Vec<u8>, bool)>,
    watched: Events,
}

/// Nobody is there any more, or somebody who does not know the protocol.
struct Over;

impl Server {
    /// Takes the next supervisor in place of the one there is, if it is this user's or root's.
    pub(super) fn take_supervisor(&mut self) {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made = match accept4(self.control.as_raw_fd(), flags) {
            Ok(made) => made,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return,
            // The host is out of something.
            Err(_) => {
                self.poller.remove(&self.control);
                return self.timers.set(self.now_ns + REST_NS, Timer::Control);
            }
        };
        // SAFETY: the call has just made this descriptor for this process.
        let socket = unsafe { OwnedFd::from_raw_fd(made) };
        let Ok(peer) = getsockopt(&socket, sockopt::PeerCredentials) else { return };
        if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
            return;
        }
        self.lose_supervisor();
        let one = Supervisor {
            socket,
            greeted: false,
            outbox: VecDeque::new(),
            watched: Events::EPOLLIN,
        };
        if self.poller.add(&one.socket, Events::EPOLLIN, SUPERVISOR).is_ok() {
            self.supervisor = Some(one);
        }
    }

    /// Watches for supervisors again.
    pub(super) fn listen_again(&mut self) {
        match self.poller.add(&self.control, Events::EPOLLIN, CONTROL) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                self.timers.set(self.now_ns + REST_NS, Timer::Control);
            }
            _ => {}
        }
    }

    fn lose_supervisor(&mut self) {
        self.supervisor = None;
        self.wanted = Vec::new();
        self.gone = Vec::new();
    }

    pub(super) fn see_to_supervisor(&mut self, events: Events) {
        if events.contains(Events::EPOLLOUT) {
            self.flush_outbox();
        }
        for _ in 0..REQUESTS_MAX {
            if self.supervisor.as_ref().is_none_or(|it| it.outbox.len() >= OUTBOX_MAX) {
                return;
            }
            match self.take_request() {
                Ok(true) => {}
                Ok(false) => return,
                Err(Over) => return self.lose_supervisor(),
            }
        }
    }

    /// Takes a request; false if there is none.
    fn take_request(&mut self) -> Result<bool, Over> {
        let Some(supervisor) = &self.supervisor else { return Ok(false) };
        let mut buffer = std::mem::take(&mut self.requests);
        buffer.resize(MESSAGE_MAX, 0);
        let received = message::receive(&supervisor.socket, &mut buffer);
        let result = match received {
            Err(Errno::EAGAIN) => Ok(false),
            Err(_) => Err(Over),
            Ok(received) if received.length == 0 => Err(Over),
            Ok(received) if received.cut => {
                self.complain("a request of more than 64 KiB");
                Ok(true)
            }
            Ok(received) => match message::decode(&buffer[..received.length]) {
                Ok(ask) => self.do_request(ask, received.passed).map(|()| true),
                Err(why) => {
                    self.complain(&why);
                    Ok(true)
                }
            },
        };
        self.requests = buffer;
        result
    }

    fn do_request(&mut self, ask: Ask, passed: Option<OwnedFd>) -> Result<(), Over> {
        let greeted = self.supervisor.as_ref().is_some_and(|it| it.greeted);
        if let Ask::Hello { version } = ask {
            return self.greet(version);
        }
        if !greeted {
            self.complain("the first message must be a hello");
            return Err(Over);
        }
        match ask {
            Ask::Hello { .. } => {}
            Ask::Ports {} => self.tell_all_ports(),
            Ask::Counters {} => {
                let counters = self.counters();
                self.say(&Told::Counters { counters });
            }
            Ask::End {} => self.ended = true,
            Ask::Set { ports } => self.set(ports),
            Ask::Remove { ports } => ports.into_iter().for_each(|port| self.remove(port)),
            Ask::Connect { port } => {
                if let Err(why) = control::connect(self, port, passed) {
                    self.complain(&format!("port {port}: its socket: {why}"));
                }
            }
            Ask::Publish { port, guest_port, udp } => {
                if let Err(why) = control::publish(self, port, guest_port, udp, passed) {
                    self.complain(&format!("port {port}: publishing {guest_port}: {why}"));
                }
            }
            Ask::Unpublish { port, guest_port, udp } => self.unpublish(port, guest_port, udp),
        }
        Ok(())
    }

    fn set(&mut self, ports: Vec<Port>) {
        let mut wrong = Vec::new();
        for port in ports {
            self.drop_gateway_unless(&port);
            wrong.extend(self.fabric.ports.set(port, &self.fabric.options).err());
        }
        match &wrong[..] {
            [] => {}
            [why] => self.complain(why),
            [why, others @ ..] => self.complain(&format!("{why}; and {} others", others.len())),
        }
    }

    fn greet(&mut self, version: u32) -> Result<(), Over> {
        if version != VERSION {
            self.complain(&format!("version {version} of the protocol, not {VERSION}"));
            return Err(Over);
        }
        let ports = self.fabric.ports.len() as u32;
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.greeted = true;
        }
        self.put_out(&Told::Hello { version: VERSION, ports }, true);
        self.flush_outbox();
        Ok(())
    }

    /// Says what went wrong, if there is a supervisor that hears it.
    pub(super) fn complain(&mut self, message: &str) {
        if self.supervisor.as_ref().is_some_and(|it| it.outbox.len() < OUTBOX_MAX / 2) {
            self.say(&Told::Problem { message: message.to_owned() });
        }
    }

    fn say(&mut self, told: &Told) {
        self.put_out(told, false);
        self.flush_outbox();
    }

    fn put_out(&mut self, told: &Told, with_table: bool) {
        if let (Some(supervisor), Ok(bytes)) = (&mut self.supervisor, message::encode(told)) {
            supervisor.outbox.push_back((bytes, with_table));
        }
    }

    /// Sends what the supervisor takes.
    fn flush_outbox(&mut self) {
        let Some(supervisor) = &mut self.supervisor else { return };
        while let Some((bytes, with_table)) = supervisor.outbox.front() {
            let passed = with_table.then(|| std::os::fd::AsFd::as_fd(&self.shared.file));
            match message::send(&supervisor.socket, bytes, passed) {
                Ok(()) => {
                    supervisor.outbox.pop_front();
                }
                Err(Errno::EAGAIN) => break,
                // What it has asked for before is still read; then it is known to be gone.
                Err(_) => supervisor.outbox.clear(),
            }
        }
        let mut wanted = Events::empty();
        wanted.set(Events::EPOLLIN, supervisor.outbox.len() < OUTBOX_MAX);
        wanted.set(Events::EPOLLOUT, !supervisor.outbox.is_empty());
        if wanted != supervisor.watched
            && self.poller.change(&supervisor.socket, wanted, SUPERVISOR).is_ok()
        {
            supervisor.watched = wanted;
        }
    }

    /// Says what has changed since it was last said, if the supervisor listens.
    pub(super) fn tell(&mut self) {
        let listens = self.supervisor.as_ref().is_some_and(|it| it.greeted && it.outbox.is_empty());
        if !listens {
            return;
        }
        for ports in std::mem::take(&mut self.gone).chunks(NAMED_MAX) {
            self.put_out(&Told::Gone { ports: ports.to_vec() }, false);
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.retain(|&port| self.is_wanted(port));
        for ports in wanted.chunks(NAMED_MAX) {
            self.put_out(&Told::Wanted { ports: ports.to_vec() }, false);
        }
        self.flush_outbox();
    }

    fn is_wanted(&self, port: PortNumber) -> bool {
        self.fabric.ports.get(port).is_some_and(Entry::is_wanted)
    }

    /// The supervisor is to be told that a port is wanted.
    pub(super) fn note_wanted(&mut self, port: PortNumber) {
        if self.supervisor.as_ref().is_some_and(|it| it.greeted) {
            self.wanted.push(port);
            // While it does not listen, the same ports may be wanted again and again.
            if self.wanted.len() > 2 * self.fabric.ports.len() {
                self.wanted.sort_unstable();
                self.wanted.dedup();
            }
        }
    }

    fn tell_all_ports(&mut self) {
        let wants = self.fabric.ports.iter().filter(|(_, entry)| entry.is_wanted());
        let wanted: Vec<PortNumber> = wants.map(|(number, _)| number).collect();
        let connected = self.fabric.ports.iter().filter(|(_, entry)| entry.guest.is_some());
        let connected: Vec<PortNumber> = connected.map(|(number, _)| number).collect();
        // All that was still to be said is in this.
        (self.wanted, self.gone) = (Vec::new(), Vec::new());
        for ports in wanted.chunks(NAMED_MAX) {
            self.put_out(&Told::Wanted { ports: ports.to_vec() }, false);
        }
        for ports in connected.chunks(NAMED_MAX) {
            self.put_out(&Told::Connected { ports: ports.to_vec() }, false);
        }
        self.put_out(&Told::Connected { ports: Vec::new() }, false);
        self.flush_outbox();
    }
}
