//! Published ports: sockets of the host, each leading to a port of a guest through a gateway that the guest has while there
//! are connections.

use super::{LISTENER, Server, Timer};
use crate::options::Options;
use crate::protocol::PortNumber;
use denali_usernet::{Gateway, Protocol};
use epoll::Events;
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// First of the gateway's ports that connections come from where the host has the gateway's address: Linux gives those
/// below to its own connections.
const FIRST_PORT_BESIDE_HOST: u16 = 61_000;

/// Connections accepted at one socket before others have their turn.
const ACCEPTS_MAX: usize = 16;

/// How long accepting rests when there are too many connections, or the host is out of something, in ns.
const REST_NS: u64 = 100_000_000;

/// A published socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(socket) => socket.as_raw_fd(),
            Self::Udp(socket) => socket.as_raw_fd(),
        }
    }
}

/// A published socket, and where it leads.
#[derive(Debug)]
struct Listener {
    socket: Socket,
    port: PortNumber,
    guest_port: u16,
}

/// What is published of one port.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) listeners: Vec<u32>,
    pub(super) gateway: Option<Box<Gateway>>,
    /// The gateway has datagram sockets.
    pub(super) datagrams: bool,
    /// When a timer polls the gateway.
    pub(super) due_at: Option<u64>,
    /// Since when the gateway has nothing to carry.
    pub(super) idle_since: Option<u64>,
    pub(super) connections: usize,
}

/// All that is published.
pub struct Published {
    listeners: Vec<Option<Listener>>,
    free: Vec<u32>,
    pub(super) gates: HashMap<PortNumber, Gate>,
    /// A port whose gateway was given something, and is to be polled.
    pub touched: Option<PortNumber>,
    /// Connections of all gateways, and the most there may be.
    pub(super) connections: usize,
    connections_max: usize,
    pub(super) first_port: Option<u16>,
    /// Frames of a gateway on their way.
    pub(super) outgoing: Vec<u8>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sockets, {} connections", self.listeners.len(), self.connections)
    }
}

impl Published {
    /// Nothing, of a switch beside whose gateway the host may be.
    pub fn new(options: &Options, beside_host: bool) -> Self {
        Self {
            listeners: Vec::new(),
            free: Vec::new(),
            gates: HashMap::new(),
            touched: None,
            connections: 0,
            connections_max: options.connections,
            first_port: beside_host.then_some(FIRST_PORT_BESIDE_HOST),
            outgoing: Vec::new(),
        }
    }

    /// Connections that there are.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Gives a frame of a guest to its gateway, if it belongs to a connection there.
    pub fn take(
        &mut self,
        port: PortNumber,
        (protocol, from, to): (Protocol, u16, SocketAddrV4),
        frame: &[u8],
        now_ns: u64,
    ) -> bool {
        let gateway = self.gates.get_mut(&port).and_then(|gate| gate.gateway.as_mut());
        let Some(gateway) = gateway.filter(|gateway| gateway.knows(protocol, from, to)) else {
            return false;
        };
        gateway.begin(now_ns);
        gateway.transmit(frame);
        self.touched = Some(port);
        true
    }

    fn insert(&mut self, listener: Listener) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.listeners[index as usize] = Some(listener);
                index
            }
            None => {
                self.listeners.push(Some(listener));
                self.listeners.len() as u32 - 1
            }
        }
    }

    fn listener(&self, index: u32) -> Option<&Listener> {
        self.listeners.get(index as usize)?.as_ref()
    }

    /// Forgets a socket, which is closed.
    fn forget(&mut self, index: u32) {
        if self.listeners.get_mut(index as usize).and_then(Option::take).is_some() {
            self.free.push(index);
        }
    }
}

impl Server {
    /// Publishes a port of a guest at a socket that does not block.
    pub(super) fn publish(
        &mut self,
        port: PortNumber,
        guest_port: u16,
        socket: Socket,
    ) -> io::Result<()> {
        let index = self.published.insert(Listener { socket, port, guest_port });
        if let Err(error) = self.watch_listener(index) {
            self.published.forget(index);
            return Err(error);
        }
        self.published.gates.entry(port).or_default().listeners.push(index);
        Ok(())
    }

    fn watch_listener(&self, index: u32) -> io::Result<()> {
        let Some(listener) = self.published.listener(index) else { return Ok(()) };
        self.poller.add(&listener.socket, Events::EPOLLIN, LISTENER | u64::from(index))
    }

    /// Publishes a port of a guest no more. Connections go on; peers of datagrams are forgotten.
    pub(super) fn unpublish(&mut self, port: PortNumber, guest_port: u16, udp: bool) {
        let Some(mut gate) = self.published.gates.remove(&port) else { return };
        gate.listeners.retain(|&index| {
            let Some(listener) = self.published.listener(index) else { return false };
            let is_udp = matches!(listener.socket, Socket::Udp(_));
            let stays = listener.guest_port != guest_port || is_udp != udp;
            if !stays {
                self.published.forget(index);
            }
            stays
        });
        self.published.gates.insert(port, gate);
        if udp {
            // Its sockets are those of the gateway, too.
            self.drop_gateway(port);
        }
        self.published
            .gates
            .retain(|&it, gate| it != port || !gate.listeners.is_empty() || gate.gateway.is_some());
    }

    /// Publishes nothing of a port any more, and ends its connections.
    pub(super) fn unpublish_all(&mut self, port: PortNumber) {
        self.drop_gateway(port);
        let Some(gate) = self.published.gates.remove(&port) else { return };
        for index in gate.listeners {
            self.published.forget(index);
        }
    }

    /// A published socket has something.
    pub(super) fn see_to_listener(&mut self, index: u32) {
        let Some(listener) = self.published.listener(index) else { return };
        let (port, guest_port) = (listener.port, listener.guest_port);
        match &listener.socket {
            Socket::Tcp(_) => self.accept(index, port, guest_port),
            Socket::Udp(socket) => match socket.try_clone() {
                Ok(socket) => self.listen_to_peers(index, port, guest_port, socket),
                Err(_) => self.rest(index),
            },
        }
        self.run_gateway(port);
    }

    fn accept(&mut self, index: u32, port: PortNumber, guest_port: u16) {
        if self.gateway(port).is_err() {
            return self.rest(index);
        }
        for _ in 0..ACCEPTS_MAX {
            let full = self.published.connections >= self.published.connections_max;
            let Some(listener) = self.published.listener(index) else { return };
            let number = listener.socket.as_raw_fd();
            let Ok(gateway) = self.gateway(port) else { return };
            if full || !gateway.has_room() {
                return self.rest(index);
            }
            match accept4(number, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
                Ok(made) => {
                    // SAFETY: the call has just made this descriptor for this process.
                    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(made) });
                    if gateway.carry(stream, guest_port) {
                        self.published.connections += 1;
                        if let Some(gate) = self.published.gates.get_mut(&port) {
                            gate.connections += 1;
                        }
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET) => {}
                Err(_) => return self.rest(index),
            }
        }
    }

    /// Leaves a socket for datagrams to the gateway, while there is one.
    fn listen_to_peers(
        &mut self,
        index: u32,
        port: PortNumber,
        guest_port: u16,
        socket: UdpSocket,
    ) {
        let Ok(gateway) = self.gateway(port) else { return self.rest(index) };
        if gateway.publish_datagrams(socket, guest_port).is_err() {
            return self.rest(index);
        }
        if let Some(gate) = self.published.gates.get_mut(&port) {
            gate.datagrams = true;
        }
        if let Some(listener) = self.published.listener(index) {
            self.poller.remove(&listener.socket);
        }
    }

    /// A published socket is left alone for a while.
    fn rest(&mut self, index: u32) {
        if let Some(listener) = self.published.listener(index) {
            self.poller.remove(&listener.socket);
            self.timers.set(self.now_ns + REST_NS, Timer::Accept(index));
        }
    }

    /// A published socket has been left alone for long enough.
    pub(super) fn accept_again(&mut self, index: u32) {
        match self.watch_listener(index) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => self.rest(index),
            _ => {}
        }
    }
}
