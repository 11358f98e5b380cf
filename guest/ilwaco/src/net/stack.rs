//! The state of the network: card, interface, sockets, listeners, and their part in every turn.

#[cfg(test)]
mod tests;

use super::Error;
use super::identity::Identity;
use crate::clock::Instant;
use crate::generation::generation;
use crate::idle::{self, Network};
use crate::virtio::net::{NetDevice, NetError};
use crate::{memory, ports, registers};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;
use core::time::Duration;
use denali_abi::boot::{DeviceEntry, KIND_NET};
use denali_abi::doorbell;
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::{Duration as NetDuration, Instant as NetInstant};
use smoltcp::wire::Ipv4Address;

/// Frames taken in per turn, so that a flood does not keep tasks from running.
const FRAMES_PER_TURN: usize = 256;
/// Sockets that wait for the next connection to each listener.
const LISTENING: usize = 2;
/// Most TCP sockets of all kinds; there is no other limit to connections not accepted yet.
const SOCKETS_MAX: usize = 1024;
/// Untouched memory that stays for the heap when a socket is made.
const RESERVE: usize = 128 * 1024;
/// As much again for each socket there is: for the tables that grow with their number, and for what
/// programs need for each connection.
const RESERVE_PER_SOCKET: usize = 8 * 1024;
/// Heap without which no connection is taken on, even if a socket for it exists.
const SPARE_ROOM: usize = 16 * 1024;
/// Least and most bytes of a socket's transmit buffer; its receive buffer is half as large.
const TRANSMIT_BUFFER: core::ops::Range<usize> = 8 << 10..64 << 10;
/// Most bytes of a transmit buffer where the card takes large segments.
const TRANSMIT_BUFFER_LARGE: usize = 1 << 20;
/// Least and most bytes of each of the two buffers of a socket for bulk data.
const BULK_BUFFER: core::ops::Range<usize> = 64 << 10..2 << 20;
/// How long the other side may stay silent during a handshake, or after this side closed.
const PATIENCE: NetDuration = NetDuration::from_secs(20);

/// What a TCP connection is for, which decides how large its buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Many connections, most of which carry little.
    Any,
    /// Few connections that carry as much as they can.
    Bulk,
}

/// A port on which connections are accepted.
pub(super) struct Listener {
    pub(super) port: u16,
    pub(super) purpose: Purpose,
    /// Sockets that listen, are in the handshake, or wait to be accepted.
    pub(super) sockets: Vec<SocketHandle>,
    /// Who waits for a connection.
    pub(super) waker: Option<Waker>,
}

/// Everything the network consists of.
pub(super) struct Stack {
    device: NetDevice,
    /// The card in the device table.
    entry: &'static DeviceEntry,
    /// Who the guest was when its generation was `generation`.
    identity: Identity,
    generation: u64,
    /// Whether its addresses are still to be announced.
    unannounced: bool,
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) listeners: Vec<Listener>,
    /// Sockets whose owners are gone, while the connection is being closed.
    orphans: Vec<SocketHandle>,
    /// Closed sockets, kept for their buffers.
    spare: Vec<tcp::Socket<'static>>,
    /// TCP sockets there are, spare ones included.
    tcp_count: usize,
    /// Whether the last turn could not send all there was.
    blocked: bool,
}

vcpu_local! {
    static STACK: RefCell<Option<Stack>> = RefCell::new(None);
}

/// Calls `use_it` with the stack, which is started first if it is not running.
pub(super) fn with<R>(use_it: impl FnOnce(&mut Stack) -> R) -> Result<R, Error> {
    STACK.with(|cell| {
        let mut stack = cell.borrow_mut();
        if stack.is_none() {
            *stack = Some(Stack::start()?);
            idle::set_network(&Turn);
        }
        stack.as_mut().map(use_it).ok_or(Error::NoDevice)
    })
}

/// Calls `use_it` with the stack of an existing socket.
pub(super) fn running<R>(use_it: impl FnOnce(&mut Stack) -> R) -> R {
    STACK.with(|cell| match cell.borrow_mut().as_mut() {
        Some(stack) => use_it(stack),
        None => unreachable!("a socket exists only once the stack runs"),
    })
}

/// The network's part in every turn of the idle loop.
struct Turn;

impl Network for Turn {
    fn receive(&self, now: Instant) -> bool {
        running(|stack| {
            stack.renew_if_needed(net_time(now));
            stack.receive(net_time(now))
        })
    }

    fn catch_up(&self, now: Instant, leap: Duration) {
        running(|stack| {
            stack.renew_if_needed(net_time(now));
            stack.catch_up(net_time(now), leap);
        });
    }

    fn send(&self, now: Instant) -> bool {
        running(|stack| stack.send(net_time(now)))
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        running(|stack| stack.deadline(now))
    }
}

fn net_time(now: Instant) -> NetInstant {
    NetInstant::from_micros((now.as_ns() / 1000) as i64)
}

/// Who a guest with this card is now.
fn identity(device: &NetDevice, entry: &'static DeviceEntry) -> Identity {
    let entry = registers::current(entry);
    Identity::new(device.mac(&entry), &entry)
}

impl Stack {
    fn start() -> Result<Self, Error> {
        let entry = registers::devices(KIND_NET).next().ok_or(Error::NoDevice)?;
        let device = NetDevice::start(entry.number as u16).map_err(|error| match error {
            NetError::Refused => Error::NoDevice,
            NetError::OutOfMemory => Error::OutOfMemory,
        })?;
        let generation = generation();
        let identity = identity(&device, entry);
        let mut stack = Self::new(device, entry, identity, net_time(Instant::now()));
        stack.generation = generation;
        Ok(stack)
    }

    fn new(
        mut device: NetDevice,
        entry: &'static DeviceEntry,
        identity: Identity,
        now: NetInstant,
    ) -> Self {
        Self {
            interface: identity.interface(&mut device, now),
            device,
            entry,
            identity,
            generation: 0,
            unannounced: false,
            sockets: SocketSet::new(Vec::new()),
            listeners: Vec::new(),
            orphans: Vec::new(),
            spare: Vec::new(),
            tcp_count: 0,
            blocked: false,
        }
    }

    /// Looks, if the generation has changed, whether this guest is a copy that has addresses of its own.
    fn renew_if_needed(&mut self, now: NetInstant) {
        let generation = generation();
        if self.generation != generation {
            self.generation = generation;
            let identity = identity(&self.device, self.entry);
            self.go_by(identity, now);
        }
    }

    /// Goes by other addresses, if they are others. Connections of an address that is gone are reset by the
    /// interface when it sends next, without a word to the other side.
    fn go_by(&mut self, identity: Identity, now: NetInstant) {
        if self.identity != identity {
            self.identity = identity;
            self.interface = identity.interface(&mut self.device, now);
            self.unannounced = true;
        }
    }

    /// The card's hardware address.
    pub(super) fn hardware_address(&self) -> [u8; 6] {
        self.identity.hardware().0
    }

    /// The interface's address.
    pub(super) fn address(&self) -> Option<Ipv4Address> {
        self.interface.ipv4_addr()
    }

    /// A closed TCP socket, to listen or connect with.
    pub(super) fn tcp_socket(&mut self, purpose: Purpose) -> Result<tcp::Socket<'static>, Error> {
        if !memory::has_room(SPARE_ROOM) {
            return Err(Error::OutOfMemory);
        }
        if let Some(index) = self.spare.iter().rposition(|spare| purpose_of(spare) == purpose) {
            return Ok(self.spare.swap_remove(index));
        }
        let untouched = memory::untouched();
        let large = self.device.has_large_segments();
        let (receive, transmit) = buffer_sizes(untouched, purpose, large);
        let reserve = RESERVE + self.tcp_count * RESERVE_PER_SOCKET;
        if self.tcp_count >= SOCKETS_MAX || untouched < receive + transmit + reserve {
            return Err(Error::OutOfMemory);
        }
        let buffers = memory::fresh(receive + transmit).ok_or(Error::OutOfMemory)?;
        let (receive, transmit) = buffers.split_at_mut(receive);
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(transmit));
        // Answers are complete when they are sent, and egress comes after tasks have run: neither
        // waiting for more to send nor for something to send an acknowledgement with would help.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.tcp_count += 1;
        Ok(socket)
    }

    /// Makes sure that enough sockets of each listener listen.
    pub(super) fn replenish_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            self.remove_dead(index);
            let listener = &self.listeners[index];
            let listening = listener
                .sockets
                .iter()
                .filter(|&&handle| self.sockets.get::<tcp::Socket<'_>>(handle).is_listening())
                .count();
            for _ in listening..LISTENING {
                if !self.add_listening(index) {
                    return;
                }
            }
        }
    }

    fn add_listening(&mut self, index: usize) -> bool {
        let Ok(mut socket) = self.tcp_socket(self.listeners[index].purpose) else {
            return false;
        };
        let listener = &mut self.listeners[index];
        if socket.listen(listener.port).is_err() {
            self.spare.push(socket);
            return false;
        }
        socket.set_timeout(Some(PATIENCE));
        if let Some(waker) = &listener.waker {
            socket.register_recv_waker(waker);
        }
        listener.sockets.push(self.sockets.add(socket));
        true
    }

    /// Puts sockets aside whose connection failed before it was accepted.
    fn remove_dead(&mut self, index: usize) {
        let mut position = 0;
        while let Some(&handle) = self.listeners[index].sockets.get(position) {
            if is_over(self.sockets.get::<tcp::Socket<'_>>(handle)) {
                self.listeners[index].sockets.swap_remove(position);
                self.set_aside(handle);
            } else {
                position += 1;
            }
        }
    }

    /// Takes over a socket whose owner is gone: what it still has to send is sent, what arrives is
    /// thrown away, and it is put aside when the connection is over.
    pub(super) fn adopt(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.close();
        socket.set_timeout(Some(PATIENCE));
        self.orphans.push(handle);
    }

    /// Forgets a listener and everything that connected to it but was not accepted.
    pub(super) fn stop_listening(&mut self, port: u16) {
        if let Some(index) = self.listeners.iter().position(|listener| listener.port == port) {
            for handle in self.listeners.swap_remove(index).sockets {
                self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
                self.orphans.push(handle);
            }
        }
    }

    fn reap_orphans(&mut self) {
        let before = self.orphans.len();
        let mut position = 0;
        while let Some(&handle) = self.orphans.get(position) {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
            while socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok() {}
            if is_over(socket) {
                self.orphans.swap_remove(position);
                self.set_aside(handle);
            } else {
                position += 1;
            }
        }
        if self.orphans.len() < before {
            // Listeners that had to do without may have theirs now.
            self.replenish_listeners();
        }
    }

    /// Takes a socket out of the set and keeps it for the next connection.
    fn set_aside(&mut self, handle: SocketHandle) {
        if let smoltcp::socket::Socket::Tcp(mut socket) = self.sockets.remove(handle) {
            // From TIME-WAIT to closed, without a packet: the socket is no longer in the set.
            socket.abort();
            socket.set_timeout(None);
            self.spare.push(socket);
        }
    }

    /// Takes in the frames that arrived. True if there were any.
    fn receive(&mut self, now: NetInstant) -> bool {
        let mut any = false;
        for _ in 0..FRAMES_PER_TURN {
            let taken =
                self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
            if taken == PollIngressSingleResult::None {
                break;
            }
            any = true;
            if self.device.take_opening() {
                self.replenish_listeners();
            }
        }
        any
    }

    /// After a leap of time: nobody is given up for having been silent meanwhile, and what was to be sent again is
    /// sent before acknowledgements are looked at, whose delays say nothing about the network.
    fn catch_up(&mut self, now: NetInstant, leap: Duration) {
        // A leap is no longer than the clock has run, whose microseconds fit many times.
        let leap = NetDuration::from_micros(leap.as_micros() as u64);
        for (_, socket) in self.sockets.iter_mut() {
            if let smoltcp::socket::Socket::Tcp(socket) = socket
                && !socket.is_listening()
                && let Some(patience) = socket.timeout()
            {
                socket.set_timeout(Some(patience + leap));
            }
        }
        self.send(now);
    }

    /// Sends everything there is to send. True if more can be done at once.
    fn send(&mut self, now: NetInstant) -> bool {
        self.blocked = false;
        self.device.interrupt_when_sent(false);
        // A frame may wait to be taken in because the answer to it would have had no room.
        if self.device.take_starved() && !self.make_room() {
            return false;
        }
        if self.unannounced {
            self.unannounced = !self.identity.announce(&mut self.device, now);
        }
        loop {
            let sent = self.interface.poll_egress(now, &mut self.device, &mut self.sockets);
            if self.device.take_starved() && !self.make_room() {
                break;
            }
            if sent == PollResult::None {
                break;
            }
        }
        self.reap_orphans();
        self.device.has_received() && !self.blocked
    }

    /// Has the device take the frames that wait to leave. False if it takes none now: then it
    /// interrupts when it has taken one.
    fn make_room(&mut self) -> bool {
        ports::out32(doorbell::FLUSH, 0);
        if self.device.reclaim() {
            return true;
        }
        self.device.interrupt_when_sent(true);
        // It may have taken one just before it saw that an interrupt is wanted.
        self.blocked = !self.device.reclaim();
        !self.blocked
    }

    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.blocked {
            return None;
        }
        let at = self.interface.poll_at(net_time(now), &self.sockets)?;
        let at = Instant::from_ns(at.total_micros().unsigned_abs() * 1000);
        // All that could be sent was sent, so whatever wants to be sent at once has to wait a
        // little for something that is missing.
        Some(at.max(now + Duration::from_millis(1)))
    }
}

/// Whether a TCP socket has nothing more to say or hear.
///
/// TIME-WAIT counts: the virtual wire neither loses nor delays segments, and a stray one finds the
/// port closed. A closed socket that still knows its peer has a reset to send first.
fn is_over(socket: &tcp::Socket<'_>) -> bool {
    match socket.state() {
        State::TimeWait => true,
        State::Closed => socket.remote_endpoint().is_none(),
        _ => false,
    }
}

/// Bytes of a new socket's receive and transmit buffers, by how much memory was never touched: large
/// ones while there is plenty, so that few connections are fast and many still fit. They take
/// memory only as far as they are filled.
fn buffer_sizes(untouched: usize, purpose: Purpose, large_segments: bool) -> (usize, usize) {
    let power_of_two = |size: usize| 1_usize << size.ilog2();
    match purpose {
        Purpose::Any => {
            let most = if large_segments { TRANSMIT_BUFFER_LARGE } else { TRANSMIT_BUFFER.end };
            let transmit = power_of_two((untouched / 256).clamp(TRANSMIT_BUFFER.start, most));
            (transmit / 2, transmit)
        }
        Purpose::Bulk => {
            let size = (untouched / 32).clamp(BULK_BUFFER.start, BULK_BUFFER.end);
            (power_of_two(size), power_of_two(size))
        }
    }
}

/// What the buffers of a socket were made for: those for bulk data are equally large.
fn purpose_of(socket: &tcp::Socket<'_>) -> Purpose {
    if socket.recv_capacity() == socket.send_capacity() { Purpose::Bulk } else { Purpose::Any }
}
