//! A guest with a TCP/IP stack of its own: it answers a line on TCP port 80 and ends the connection, and datagrams on UDP
//! port 53, each time with its number in front; and it can connect to others.

use super::Guest;
use super::bytes::{HEADER, completed};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections that it takes at once.
const SERVED: usize = 16;

/// A guest that serves until it is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts serving as guest `number`.
    pub fn start(guest: Guest, number: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut stack = Stack::new(&guest);
            stack.serve(number, || stopped.load(Ordering::Relaxed));
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The stack of a guest.
pub struct Stack<'a> {
    wire: Wire<'a>,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl<'a> Stack<'a> {
    pub fn new(guest: &'a Guest) -> Self {
        let mut wire = Wire { guest };
        let config = Config::new(EthernetAddress(guest.ends.mac).into());
        let mut interface = Interface::new(config, &mut wire, Instant::now());
        let own = Ipv4Address::from(guest.ends.address);
        interface.update_ip_addrs(|all| all.push(IpCidr::new(own.into(), 16)).unwrap());
        let gateway = Ipv4Address::from(super::GATEWAY.address);
        interface.routes_mut().add_default_ipv4_route(gateway).unwrap();
        Self { wire, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn turn(&mut self) {
        self.interface.poll(Instant::now(), &mut self.wire, &mut self.sockets);
        super::readable(&self.wire.guest.socket, Duration::from_millis(2));
    }

    fn add_tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Serves until it is to stop.
    fn serve(&mut self, number: u8, stop: impl Fn() -> bool) {
        let listeners: Vec<SocketHandle> = (0..SERVED).map(|_| self.add_tcp()).collect();
        let packets =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16 << 10]);
        let datagrams = self.sockets.add(udp::Socket::new(packets(), packets()));
        self.sockets.get_mut::<udp::Socket<'_>>(datagrams).bind(53).unwrap();
        while !stop() {
            for &handle in &listeners {
                answer_line(self.sockets.get_mut(handle), number);
            }
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(datagrams);
            while let Ok((data, from)) = socket.recv() {
                let answer = [format!("guest {number}: ").as_bytes(), data].concat();
                socket.send_slice(&answer, from).unwrap();
            }
            self.turn();
        }
    }

    /// Connects to somebody, sends a line, and gives what comes back until the end.
    pub fn ask(&mut self, to: SocketAddrV4, line: &str) -> String {
        let handle = self.add_tcp();
        let from = 40_000 + self.sockets.iter().count() as u16;
        let context = self.interface.context();
        let to = (IpAddress::from(*to.ip()), to.port());
        self.sockets.get_mut::<tcp::Socket<'_>>(handle).connect(context, to, from).unwrap();
        let mut sent = false;
        let mut answer = Vec::new();
        let start = std::time::Instant::now();
        loop {
            assert!(start.elapsed() < super::PATIENCE, "no answer");
            self.turn();
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
            if socket.may_send() && !std::mem::replace(&mut sent, true) {
                socket.send_slice(line.as_bytes()).unwrap();
            }
            while socket.can_recv() {
                let some = socket.recv(|some| (some.len(), some.to_vec())).unwrap();
                answer.extend(some);
            }
            if sent && !socket.may_recv() {
                socket.close();
                self.turn();
                return String::from_utf8(answer).unwrap();
            }
        }
    }
}

/// Answers the line that a connection has brought, and ends it.
fn answer_line(socket: &mut tcp::Socket<'_>, number: u8) {
    if !socket.is_open() {
        socket.listen(80).unwrap();
    }
    let mut line = None;
    if socket.can_recv() {
        let _ = socket.peek(1 << 14).map(|some| {
            line = some.ends_with(b"\n").then(|| some.to_vec());
        });
    }
    if let Some(line) = line {
        socket.recv(|some| (some.len(), ())).unwrap();
        let answer = [format!("guest {number}: ").as_bytes(), &line].concat();
        socket.send_slice(&answer).unwrap();
        socket.close();
    }
}

/// The guest's socket as the stack uses it: every checksum is verified, and computed.
struct Wire<'a> {
    guest: &'a Guest,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a Guest);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut message = vec![0; HEADER + length];
        let result = f(&mut message[HEADER..]);
        // The switch may be gone.
        let _ = nix::unistd::write(&self.0.socket, &message);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Received
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let message = self.guest.receive_within(Duration::ZERO)?;
        (message.len() > HEADER).then(|| (Received(completed(&message)), Sending(self.guest)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(self.guest))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}
