//! A guest for tests: a second TCP/IP stack that speaks Ethernet with the gateway in memory.

#![allow(dead_code)] // each test crate uses a part of it

pub mod datagrams;
pub mod opener;

use denali_usernet::{Config, Gateway};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GUEST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const GATEWAY_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Real seconds after which a test that waits has failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub fn config() -> Config {
    Config::new((GUEST_MAC, GUEST_IP), (GATEWAY_MAC, GATEWAY_IP), 24)
}

/// The guest's card: frames in memory.
pub struct Card {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: Vec<Vec<u8>>,
    mtu: usize,
}

pub struct Taken(Vec<u8>);
pub struct Given<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Taken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Given<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Taken;
    type TxToken<'a> = Given<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Taken, Given<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Taken(frame), Given(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Given<'_>> {
        Some(Given(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        // The gateway leaves TCP checksums out; all others are verified.
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

/// A guest and what it does with its sockets.
pub struct Guest {
    pub stack: Interface,
    pub sockets: SocketSet<'static>,
    pub card: Card,
    pub listening: Vec<SocketHandle>,
    pub port: u16,
}

impl Guest {
    pub fn new(mtu: u16) -> Self {
        let mut card =
            Card { incoming: VecDeque::new(), outgoing: Vec::new(), mtu: usize::from(mtu) };
        let mut settings = iface::Config::new(EthernetAddress(GUEST_MAC).into());
        settings.random_seed = 42;
        let mut stack = Interface::new(settings, &mut card, Instant::ZERO);
        stack.update_ip_addrs(|list| {
            list.push(IpCidr::Ipv4(Ipv4Cidr::new(GUEST_IP, 24))).unwrap();
        });
        stack.routes_mut().add_default_ipv4_route(GATEWAY_IP).unwrap();
        Self { stack, sockets: SocketSet::new(Vec::new()), card, listening: Vec::new(), port: 80 }
    }

    pub fn add_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    pub fn listen(&mut self, count: usize) {
        for _ in 0..count {
            let handle = self.add_socket();
            self.socket(handle).listen(80).unwrap();
            self.listening.push(handle);
        }
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The first listening socket that has left the state LISTEN.
    pub fn connected(&mut self) -> Option<SocketHandle> {
        let handles = self.listening.clone();
        handles.into_iter().find(|&handle| self.socket(handle).state() != tcp::State::Listen)
    }
}

/// A gateway and a guest, joined.
pub struct Rig {
    pub gateway: Gateway,
    pub guest: Guest,
    pub address: SocketAddr,
    /// Whether frames of the guest arrive; false is a guest that is dead.
    pub alive: bool,
    started: std::time::Instant,
    skipped_ns: u64,
}

impl Rig {
    pub fn new(config: Config) -> Self {
        Self::publishing(config, 80)
    }

    /// A rig whose host port leads to a port of the guest, on which it may not listen.
    pub fn publishing(config: Config, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let guest = Guest::new(config.mtu);
        let gateway = Gateway::new(config, vec![(listener, port)]).unwrap();
        let started = std::time::Instant::now();
        Self { gateway, guest, address, alive: true, started, skipped_ns: 0 }
    }

    pub fn now_ns(&self) -> u64 {
        1_000_000_000 + self.started.elapsed().as_nanos() as u64 + self.skipped_ns
    }

    /// Lets time pass for both stacks at once.
    pub fn skip(&mut self, seconds: u64) {
        self.skipped_ns += seconds * 1_000_000_000;
    }

    /// One exchange of frames.
    pub fn turn(&mut self) {
        let now_ns = self.now_ns();
        let now = Instant::from_micros((now_ns / 1000) as i64);
        if self.alive {
            self.guest.stack.poll(now, &mut self.guest.card, &mut self.guest.sockets);
        }
        self.gateway.begin(now_ns);
        for frame in self.guest.card.outgoing.drain(..) {
            self.gateway.transmit(&frame);
        }
        self.gateway.poll();
        while self.alive {
            let Some(frame) = self.gateway.next_frame() else { break };
            self.guest.card.incoming.push_back(frame.to_vec());
            self.gateway.consume();
        }
    }

    /// Turns, and lets the guest act, until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Rig) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "in vain: {what}; {:?}", self.gateway.counters());
            self.turn();
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    }

    pub fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }
}

/// Echoes what a socket received, ends when its peer has ended, and listens again when closed.
pub fn echo(guest: &mut Guest) {
    for index in 0..guest.listening.len() {
        let handle = guest.listening[index];
        let socket = guest.socket(handle);
        while socket.can_recv() && socket.can_send() {
            let free = socket.send_capacity() - socket.send_queue();
            let mut bytes = vec![0; free.min(socket.recv_queue())];
            let count = socket.recv_slice(&mut bytes).unwrap();
            assert_eq!(socket.send_slice(&bytes[..count]), Ok(count));
        }
        match socket.state() {
            tcp::State::CloseWait if !socket.can_recv() => socket.close(),
            tcp::State::Closed | tcp::State::TimeWait => {
                socket.abort();
                socket.listen(80).unwrap();
            }
            _ => {}
        }
    }
}
