//! Guests on seqpacket sockets, with another TCP/IP stack, or another guest, at the other end.

use crate::backend::Backend;
use crate::guest::{Guest, PATIENCE, Run, wait_until};
use crate::registry::{Case, Suite};
use crate::seqpacket::{Cable, Listener};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr, Ipv4Address, Ipv4Packet,
};
use std::collections::BTreeSet;
use std::path::Path;

pub fn suite() -> Suite {
    Suite {
        name: "socket_net",
        cases: vec![
            Case::each("another_stack_finds_pings_and_reads_from_a_guest", another_stack),
            Case::each("guests_reach_each_other_through_a_relay", relay),
            Case::each("a_peer_that_goes_away_leaves_the_guest_running", gone),
            Case::each("a_peer_that_sends_rubbish", rubbish),
            Case::each("a_peer_that_reads_late_loses_nothing", late),
        ],
    }
}

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 99];
const PEER: Ipv4Address = Ipv4Address::new(10, 79, 0, 1);

/// The address of a guest on a wire.
pub fn address_of(number: u8) -> Ipv4Address {
    Ipv4Address::new(10, 79, 0, number)
}

/// Starts a web server, number `number` on the wire, whose card connects to `path`.
fn start(backend: Backend, path: &Path, number: u8) -> Guest {
    let net = format!(
        r#"net=[{{"mac":"02:00:00:00:00:{number:02x}","address":"{}/24",
            "backend":{{"socket":{path:?}}}}}]"#,
        address_of(number)
    );
    Run::new(backend, "web").set(net).json().start()
}

/// A guest and the cable to it.
fn connected(backend: Backend) -> (Guest, Cable, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wire");
    let listener = Listener::bind(&path);
    let guest = start(backend, &path, 2);
    let cable = listener.accept();
    guest.wait_for("serving");
    (guest, cable, folder)
}

/// The cable as smoltcp uses it: every checksum is verified, and computed.
struct Wire<'a> {
    cable: &'a Cable,
    heard: BTreeSet<Sender>,
}

/// As whom somebody speaks.
pub type Sender = (EthernetAddress, Ipv4Address);

/// As whom a frame speaks: of IPv4 one answer, of ARP one in front and one within.
fn senders(frame: &[u8]) -> Vec<Sender> {
    let frame = EthernetFrame::new_checked(frame).expect("a whole frame");
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).expect("a whole packet");
            vec![(frame.src_addr(), packet.src_addr())]
        }
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).expect("a whole packet");
            let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } =
                ArpRepr::parse(&packet).expect("ARP of Ethernet and IPv4")
            else {
                unreachable!("there is no other")
            };
            [frame.src_addr(), source_hardware_addr].map(|mac| (mac, source_protocol_addr)).into()
        }
        _ => Vec::new(),
    }
}

/// A frame that asks who has an address, from the peer to everybody.
pub fn who_has(address: Ipv4Address) -> Vec<u8> {
    let question = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(PEER_MAC),
        source_protocol_addr: PEER,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    let mut bytes = vec![0; 14 + question.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(EthernetAddress(PEER_MAC));
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Arp);
    question.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

struct Arrived(Vec<u8>);
struct Leave<'a>(&'a Cable);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(&self.0)
    }
}

impl TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.send(&frame);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Arrived
    where
        Self: 'b;
    type TxToken<'b>
        = Leave<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leave<'_>)> {
        let frame = self.cable.receive(0)?;
        self.heard.extend(senders(&frame));
        Some((Arrived(frame), Leave(self.cable)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        Some(Leave(self.cable))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A host at the other end of a cable.
pub struct Peer<'a> {
    wire: Wire<'a>,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl<'a> Peer<'a> {
    /// A host with all that it needs.
    pub fn new(cable: &'a Cable) -> Self {
        let mut wire = Wire { cable, heard: BTreeSet::new() };
        let config = Config::new(EthernetAddress(PEER_MAC).into());
        let mut interface = Interface::new(config, &mut wire, Instant::now());
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(PEER.into(), 24)).expect("there is room");
        });
        Self { wire, interface, sockets: SocketSet::new(Vec::new()) }
    }

    /// As whom anybody has spoken on the cable so far.
    pub fn heard(&self) -> &BTreeSet<Sender> {
        &self.wire.heard
    }

    /// Lets the stack work until `is_so`.
    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut SocketSet<'static>) -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        while !is_so(&mut self.sockets) {
            assert!(std::time::Instant::now() < end, "not in {PATIENCE:?}: {what}");
            self.interface.poll(Instant::now(), &mut self.wire, &mut self.sockets);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }

    /// Sends an echo request with so many bytes, and waits for the echo.
    #[track_caller]
    pub fn ping(&mut self, to: Ipv4Address, bytes: usize) {
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 2], vec![0; 4096]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(7)).expect("a free identifier");
        let data = vec![0x5a; bytes];
        let request = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: &data };
        let room = socket.send(request.buffer_len(), to.into()).expect("there is room");
        request.emit(&mut Icmpv4Packet::new_unchecked(room), &ChecksumCapabilities::default());
        let handle = self.sockets.add(socket);
        self.until("an echo", |sockets| sockets.get::<icmp::Socket<'_>>(handle).can_recv());
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(handle);
        let (echo, from) = socket.recv().expect("an echo");
        assert_eq!(from, IpAddress::Ipv4(to));
        let echo = Icmpv4Packet::new_checked(echo).expect("a whole packet");
        let reply = Icmpv4Repr::parse(&echo, &ChecksumCapabilities::default());
        let expected = Icmpv4Repr::EchoReply { ident: 7, seq_no: 1, data: &data };
        assert_eq!(reply, Ok(expected));
        self.sockets.remove(handle);
    }

    /// The whole response to a GET, head and body.
    #[track_caller]
    fn get(&mut self, from: Ipv4Address, path: &str) -> Vec<u8> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 32 << 10]);
        let handle: SocketHandle = self.sockets.add(tcp::Socket::new(buffer(), buffer()));
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (from, 80), 50_000).expect("a free port");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let mut asked = false;
        let mut response = Vec::new();
        self.until("a response", |sockets| {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if !asked && socket.can_send() {
                socket.send_slice(request.as_bytes()).expect("it can send");
                asked = true;
            }
            while socket.can_recv() {
                let taken = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
                response.extend(taken.expect("it can receive"));
            }
            asked && !socket.may_recv()
        });
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.close();
        response
    }
}

#[track_caller]
fn assert_counting(response: &[u8], length: usize) {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(response.starts_with(b"HTTP/1.1 200"), "{:?}", &response[..end]);
    let body = &response[end..];
    assert_eq!(body.len(), length);
    assert!(body.iter().enumerate().all(|(index, &byte)| byte == index as u8));
}

fn another_stack(backend: Backend) {
    let (_guest, cable, _folder) = connected(backend);
    let mut peer = Peer::new(&cable);
    peer.ping(address_of(2), 56);
    peer.ping(address_of(2), 1400);
    assert_counting(&peer.get(address_of(2), "/bytes/1000000"), 1_000_000);
}

/// A segment that opens a TCP connection, from a guest that knows nothing of it.
fn opening(from: u8, to: u8) -> Vec<u8> {
    use smoltcp::wire::*;
    let tcp = TcpRepr {
        src_port: 4321,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1000),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: address_of(from),
        dst_addr: address_of(to),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + 20 + tcp.buffer_len()];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
    let (from, to) = (ip.src_addr.into(), ip.dst_addr.into());
    tcp.emit(&mut TcpPacket::new_unchecked(&mut frame[34..]), &from, &to, &checksums);
    frame
}

/// One guest is made to believe that the other opens a connection: it asks for the other's address,
/// accepts, and is told by the other that this is a mistake. All of it passes the relay unchanged.
fn relay(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wire");
    let listener = Listener::bind(&path);
    let first = start(backend, &path, 2);
    let first_cable = listener.accept();
    let second = start(backend, &path, 3);
    let second_cable = listener.accept();
    first.wait_for("serving");
    second.wait_for("serving");
    first_cable.send(&opening(3, 2));
    let mut seen = Vec::new();
    wait_until("a reset from the second guest to the first", || {
        for (from, to) in [(&first_cable, &second_cable), (&second_cable, &first_cable)] {
            while let Some(datagram) = from.receive_datagram(1) {
                to.send_datagram(&datagram);
                seen.push(datagram);
            }
        }
        let is_tcp = |frame: &[u8]| frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6;
        let flags = |number: u8, flags: u8| {
            seen.iter()
                .map(|datagram| &datagram[12..])
                .any(|frame| is_tcp(frame) && frame[11] == number && frame[47] & flags == flags)
        };
        flags(2, 0x12) && flags(3, 0x04)
    });
    let mut peer = Peer::new(&first_cable);
    peer.ping(address_of(2), 56);
}

fn gone(backend: Backend) {
    let (mut guest, cable, _folder) = connected(backend);
    Peer::new(&cable).ping(address_of(2), 56);
    drop(cable);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = crate::process::cpu_ticks(guest.pid());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(crate::process::cpu_ticks(guest.pid()) - before < 10, "it does not spin");
    assert!(guest.is_running());
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    assert!(finished.stdout.contains(r#""socket_down":1"#), "{finished:#?}");
}

/// Datagrams that are no frames are dropped and counted; those that are go on to the guest.
fn rubbish(backend: Backend) {
    let (mut guest, cable, _folder) = connected(backend);
    let large_segment = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    for datagram in [
        &[7][..],
        &[0; 12],
        &[0xff; 13],
        &[0xff; 1000],
        &[0; 1600],
        &[0; 60_000],
        &[&large_segment[..], &[0; 1000]].concat(),
    ] {
        for _ in 0..50 {
            cable.send_datagram(datagram);
        }
    }
    let mut peer = Peer::new(&cable);
    peer.ping(address_of(2), 56);
    assert_counting(&peer.get(address_of(2), "/bytes/50000"), 50_000);
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    assert!(finished.stdout.contains(r#""receive_errors":350"#), "{finished:#?}");
}

/// An echo request of 1400 bytes, from the peer to the guest.
fn echo_request(number: u16) -> Vec<u8> {
    use smoltcp::wire::{IpProtocol, Ipv4Repr};
    let data = [0x33; 1400];
    let icmp = Icmpv4Repr::EchoRequest { ident: 9, seq_no: number, data: &data };
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: address_of(2),
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + 20 + icmp.buffer_len()];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&PEER_MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut frame[34..]), &checksums);
    frame
}

/// Answers that the socket has no room for wait in the guest's queue, and requests in the socket.
fn late(backend: Backend) {
    let (mut guest, cable, _folder) = connected(backend);
    Peer::new(&cable).ping(address_of(2), 56);
    let mut sent = 0;
    let mut refused = 0;
    while refused < 20 {
        if cable.try_send(&echo_request(sent)) {
            sent += 1;
        } else {
            refused += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    assert!(sent > 64, "{sent} requests are more than the guest's queue holds");
    for number in 0..sent {
        let answer = cable.receive(PATIENCE.as_millis() as i32).expect("an answer");
        let icmp = Icmpv4Packet::new_checked(&answer[34..]).expect("a whole packet");
        assert_eq!((icmp.echo_ident(), icmp.echo_seq_no()), (9, number));
    }
    assert_eq!(cable.receive_datagram(100), None);
    guest.signal_until_it_ends(libc::SIGTERM);
    let finished = guest.finish();
    assert!(!finished.stdout.contains(r#""socket_waits":0,"#), "it was waited: {finished:#?}");
    assert!(finished.stdout.contains(r#""socket_lost":0,"#), "{finished:#?}");
}
