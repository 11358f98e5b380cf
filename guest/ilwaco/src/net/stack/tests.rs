//! Tests of the stack: its sockets, and what becomes of them in copies and after leaps of time.

use super::*;
use crate::net::{TcpListener, TcpStream, UdpSocket};
use crate::virtio::net::tests::{card, deliver};
use crate::virtio::queue::tests::FakeDevice;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use denali_abi::virtio::NET_HEADER;
use smoltcp::iface::Config;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::udp;
use smoltcp::wire::{
    ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, IpCidr, Ipv4Packet, TcpPacket,
};
use std::collections::VecDeque;

const PEER: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const GUEST: [u8; 4] = [10, 0, 0, 2];
const COPY: [u8; 4] = [10, 0, 0, 3];
const PORT: u16 = 80;

#[test]
fn buffers_shrink_with_memory() {
    for large in [false, true] {
        assert_eq!(buffer_sizes(0, Purpose::Any, large), (4 << 10, 8 << 10));
        assert_eq!(buffer_sizes(14 << 20, Purpose::Any, large), (16 << 10, 32 << 10));
        assert_eq!(buffer_sizes(14 << 20, Purpose::Bulk, large), (256 << 10, 256 << 10));
        assert_eq!(buffer_sizes(usize::MAX, Purpose::Bulk, large), (2 << 20, 2 << 20));
    }
    assert_eq!(buffer_sizes(usize::MAX, Purpose::Any, false), (32 << 10, 64 << 10));
    assert_eq!(buffer_sizes(usize::MAX, Purpose::Any, true), (512 << 10, 1 << 20));
}

#[test]
fn hundreds_of_connections_fit_a_small_guest() {
    let (mut left, mut count) = (14 << 20, 0);
    loop {
        let (receive, transmit) = buffer_sizes(left, Purpose::Any, true);
        match left.checked_sub(receive + transmit) {
            Some(rest) => left = rest,
            None => break,
        }
        count += 1;
    }
    assert!(count > 500, "{count}");
}

/// The other side's card: frames on their way.
#[derive(Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
}

struct Arrival(Vec<u8>);

impl RxToken for Arrival {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Departure<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrival;
    type TxToken<'a> = Departure<'a>;

    fn receive(&mut self, _: NetInstant) -> Option<(Arrival, Self::TxToken<'_>)> {
        Some((Arrival(self.arriving.pop_front()?), Departure(&mut self.leaving)))
    }

    fn transmit(&mut self, _: NetInstant) -> Option<Self::TxToken<'_>> {
        Some(Departure(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        // The guest leaves checksums to its card, which plays no part here.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

/// A guest's stack, and another host on the same Ethernet.
struct Network {
    arrivals: FakeDevice,
    departures: FakeDevice,
    wire: Wire,
    peer: Interface,
    sockets: SocketSet<'static>,
    now: NetInstant,
    /// Every frame that the guest has sent.
    sent: Vec<Vec<u8>>,
}

fn identity(last: u8, ipv4: [u8; 4]) -> Identity {
    let entry = DeviceEntry { ipv4, prefix_len: 24, ..DeviceEntry::EMPTY };
    Identity::new([2, 0, 0, 0, 0, last], &entry)
}

impl Network {
    fn new() -> Self {
        let now = NetInstant::from_secs(1000);
        let (device, arrivals, departures) = card();
        let stack = Stack::new(device, &DeviceEntry::EMPTY, identity(2, GUEST), now);
        STACK.with(|cell| *cell.borrow_mut() = Some(stack));
        let mut wire = Wire::default();
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
        let mut peer = Interface::new(config, &mut wire, now);
        peer.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(PEER.into(), 24)).unwrap();
        });
        let sockets = SocketSet::new(Vec::new());
        Self { arrivals, departures, wire, peer, sockets, now, sent: Vec::new() }
    }

    /// Lets the guest have a turn without tasks. True if it sent something.
    fn guest_turn(&mut self) -> bool {
        running(|stack| {
            stack.receive(self.now);
            stack.send(self.now);
        });
        let before = self.sent.len();
        while let Some((id, bytes)) = self.departures.next() {
            self.sent.push(bytes[NET_HEADER..].to_vec());
            self.departures.finish(u32::from(id), 0);
        }
        self.sent.len() > before
    }

    /// Until nobody has anything more to say.
    fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.sent.len();
            let guest = self.guest_turn();
            self.wire.arriving.extend(self.sent[before..].iter().cloned());
            self.peer.poll(self.now, &mut self.wire, &mut self.sockets);
            let peer = !self.wire.leaving.is_empty();
            for frame in self.wire.leaving.drain(..) {
                deliver(&mut self.arrivals, &frame);
            }
            if !guest && !peer {
                return;
            }
        }
        panic!("they talk without end");
    }

    /// Time passes in which the guest does not run; then it catches up.
    fn leap(&mut self, seconds: u64) {
        self.now += NetDuration::from_secs(seconds);
        running(|stack| stack.catch_up(self.now, Duration::from_secs(seconds)));
    }

    fn connect(&mut self, to: [u8; 4]) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        let port = 50_000 + self.sockets.iter().count() as u16;
        socket.connect(self.peer.context(), (Ipv4Address::from(to), PORT), port).unwrap();
        self.sockets.add(socket)
    }

    fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A connection to the guest, as both sides have it.
    fn connection(&mut self, listener: &TcpListener) -> (SocketHandle, TcpStream) {
        let handle = self.connect(GUEST);
        self.settle();
        let Poll::Ready(stream) = poll(listener.accept()) else { panic!("no connection") };
        (handle, stream)
    }

    /// TCP segments with data that the guest has sent, from the one numbered `first` of all frames on.
    fn data_segments(&self, first: usize) -> usize {
        let has_data = |frame: &Vec<u8>| {
            let packet = Ipv4Packet::new_checked(EthernetFrame::new_checked(frame).ok()?.payload());
            let segment = packet.ok()?;
            let data = TcpPacket::new_checked(segment.payload()).ok()?.payload().len();
            (data > 0).then_some(())
        };
        self.sent[first..].iter().filter_map(has_data).count()
    }
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads what has arrived.
fn read(stream: &mut TcpStream) -> Result<Vec<u8>, Error> {
    match poll(stream.read_with(|bytes| (bytes.len(), bytes.to_vec()))) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(Vec::new()),
    }
}

/// Whether the guest has sent a frame from an IPv4 address, from the one numbered `first` on.
fn came_from(frames: &[Vec<u8>], address: [u8; 4]) -> bool {
    frames.iter().any(|frame| {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        match frame.ethertype() {
            EthernetProtocol::Arp => {
                ArpPacket::new_checked(frame.payload()).unwrap().source_protocol_addr() == address
            }
            _ => Ipv4Packet::new_checked(frame.payload()).unwrap().src_addr().octets() == address,
        }
    })
}

#[test]
fn connections_of_a_guest_that_comes_back_as_itself_go_on() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (client, mut stream) = network.connection(&listener);
    let before = network.sent.len();
    running(|stack| stack.go_by(identity(2, GUEST), network.now));
    network.leap(3600);
    network.tcp(client).send_slice(b"still there?").unwrap();
    network.settle();
    assert_eq!(read(&mut stream).unwrap(), b"still there?");
    assert_eq!(poll(stream.write(b"yes")), Poll::Ready(Ok(3)));
    network.settle();
    let mut answer = [0; 3];
    assert_eq!(network.tcp(client).recv_slice(&mut answer), Ok(3));
    assert!(network.data_segments(before) == 1, "nothing was sent twice");
}

#[test]
fn connections_of_a_copy_break_off_in_silence() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (client, mut stream) = network.connection(&listener);
    // One that is not accepted yet, and one whose owner is gone while it has still something to say.
    let waiting = network.connect(GUEST);
    network.settle();
    let (_, mut closing) = network.connection(&listener);
    assert_eq!(poll(closing.write(b"farewell")), Poll::Ready(Ok(8)));
    drop(closing);
    let mut reading = Box::pin(stream.read_with(|bytes| (bytes.len(), ())));
    assert!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());

    let before = network.sent.len();
    running(|stack| stack.go_by(identity(3, COPY), network.now));
    network.settle();
    let result = reading.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(result, Poll::Ready(Err(Error::Reset)));
    drop(reading);
    assert_eq!(poll(stream.write(b"x")), Poll::Ready(Err(Error::Closed)));
    assert!(!came_from(&network.sent[before..], GUEST), "the original talks to it");
    for client in [client, waiting] {
        assert_eq!(network.tcp(client).state(), State::Established, "with the original");
    }
    drop(stream);
    network.settle();
    running(|stack| assert!(stack.orphans.is_empty()));
}

#[test]
fn a_copy_announces_itself_and_serves_at_its_new_address() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let socket = UdpSocket::bind(PORT).unwrap();
    let (_, _stream) = network.connection(&listener);
    running(|stack| stack.go_by(identity(3, COPY), network.now));
    network.settle();
    let announced = EthernetFrame::new_checked(network.sent.last().unwrap()).unwrap();
    assert_eq!(announced.ethertype(), EthernetProtocol::Arp);
    assert_eq!(announced.src_addr(), EthernetAddress([2, 0, 0, 0, 0, 3]));
    assert!(announced.dst_addr().is_broadcast());
    assert_eq!(running(|stack| stack.address()), Some(Ipv4Address::from(COPY)));

    // After a second the other side asks again who has an address.
    network.now += NetDuration::from_secs(1);
    let client = network.connect(COPY);
    network.settle();
    assert_eq!(network.tcp(client).state(), State::Established);
    assert!(poll(listener.accept()).is_ready());

    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
    let mut other = udp::Socket::new(buffer(), buffer());
    other.bind(9).unwrap();
    other.send_slice(b"you there", (Ipv4Address::from(COPY), PORT)).unwrap();
    let other = network.sockets.add(other);
    network.settle();
    let mut bytes = [0; 16];
    let Poll::Ready((9, from)) = poll(socket.receive_from(&mut bytes)) else { panic!("lost") };
    assert_eq!(poll(socket.send_to(b"here", from)), Poll::Ready(Ok(())));
    network.settle();
    let (answer, metadata) = network.sockets.get_mut::<udp::Socket<'_>>(other).recv().unwrap();
    assert_eq!((answer, metadata.endpoint.addr), (&b"here"[..], Ipv4Address::from(COPY).into()));
}

#[test]
fn one_announcement_is_enough() {
    let mut network = Network::new();
    running(|stack| stack.go_by(identity(3, COPY), network.now));
    network.settle();
    network.leap(100);
    network.settle();
    assert_eq!(network.sent.len(), 1);
}

#[test]
fn a_copy_with_the_same_address_keeps_its_connections() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (client, mut stream) = network.connection(&listener);
    running(|stack| stack.go_by(identity(3, GUEST), network.now));
    assert_eq!(poll(stream.write(b"moved")), Poll::Ready(Ok(5)));
    network.settle();
    assert!(network.tcp(client).can_recv(), "the announcement says where it went");
    network.tcp(client).send_slice(b"found").unwrap();
    network.settle();
    assert_eq!(read(&mut stream).unwrap(), b"found");
}

/// A handshake whose last segment is on its way while the guest is away for longer than its patience lasts.
fn handshake_across(leap: impl FnOnce(&mut Network)) -> State {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (_, _first) = network.connection(&listener);
    let client = network.connect(GUEST);
    network.peer.poll(network.now, &mut network.wire, &mut network.sockets);
    for frame in network.wire.leaving.drain(..) {
        deliver(&mut network.arrivals, &frame);
    }
    let before = network.sent.len();
    network.guest_turn();
    network.wire.arriving.extend(network.sent[before..].iter().cloned());
    network.peer.poll(network.now, &mut network.wire, &mut network.sockets);
    leap(&mut network);
    network.guest_turn();
    for frame in network.wire.leaving.drain(..) {
        deliver(&mut network.arrivals, &frame);
    }
    network.settle();
    network.tcp(client).state()
}

#[test]
fn a_leap_does_not_count_as_silence_of_others() {
    let passes = |network: &mut Network| network.now += NetDuration::from_secs(60);
    assert_eq!(handshake_across(passes), State::Closed, "time in which the guest could wait");
    assert_eq!(handshake_across(|network| network.leap(60)), State::Established);
}

#[test]
fn an_overdue_retransmission_is_made_once() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (client, mut stream) = network.connection(&listener);
    assert_eq!(poll(stream.write(b"lost")), Poll::Ready(Ok(4)));
    network.guest_turn();
    let before = network.sent.len();
    network.leap(600);
    network.settle();
    assert_eq!(network.data_segments(before), 1);
    let mut bytes = [0; 8];
    assert_eq!(network.tcp(client).recv_slice(&mut bytes), Ok(4));
}

/// An acknowledgement that had to wait for the guest is no measure of the way there and back.
#[test]
fn a_leap_does_not_slow_down_what_is_lost_later() {
    let mut network = Network::new();
    let listener = TcpListener::bind(PORT).unwrap();
    let (_, mut stream) = network.connection(&listener);
    assert_eq!(poll(stream.write(b"one")), Poll::Ready(Ok(3)));
    let before = network.sent.len();
    network.guest_turn();
    network.wire.arriving.extend(network.sent[before..].iter().cloned());
    network.peer.poll(network.now, &mut network.wire, &mut network.sockets);
    for frame in network.wire.leaving.drain(..) {
        deliver(&mut network.arrivals, &frame);
    }
    network.leap(600);
    network.settle();
    assert_eq!(poll(stream.write(b"two")), Poll::Ready(Ok(3)));
    network.guest_turn();
    let before = network.sent.len();
    network.now += NetDuration::from_secs(5);
    network.guest_turn();
    assert_eq!(network.data_segments(before), 1);
}
