//! Datagrams to published ports: who hears whom, and what is lost when there is too much.

mod common;

use common::datagrams::{datagram, is_protocol};
use common::opener::TestOpener;
use common::{GATEWAY_IP, GUEST_IP, Rig, config};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

const SECOND: u64 = 1_000_000_000;

/// Port of the guest that is published.
const PORT: u16 = 5000;

/// A rig with a published port, and where that is.
fn rig() -> (Rig, SocketAddr) {
    let mut rig = Rig::new(config());
    rig.alive = false;
    let address = publish(&mut rig, "127.0.0.1:0", PORT);
    (rig, address)
}

fn publish(rig: &mut Rig, at: &str, guest_port: u16) -> SocketAddr {
    let socket = UdpSocket::bind(at).unwrap();
    let address = socket.local_addr().unwrap();
    rig.gateway.publish_datagrams(socket, guest_port).unwrap();
    address
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Whom the guest takes a frame's sender for, and to which of its ports it wrote.
fn ends(frame: &[u8]) -> (SocketAddrV4, u16) {
    assert_eq!(frame[30..34], GUEST_IP.octets());
    let port = |at| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let from = [frame[26], frame[27], frame[28], frame[29]];
    (SocketAddrV4::new(from.into(), port(34)), port(36))
}

/// The next datagram for the guest: from whom, to which port, and what.
fn next(rig: &mut Rig) -> (SocketAddrV4, u16, Vec<u8>) {
    let mut found = None;
    rig.until("a datagram", |rig| {
        found = rig.gateway.next_frame().map(<[u8]>::to_vec);
        found.is_some()
    });
    rig.gateway.consume();
    let frame = found.unwrap();
    assert!(is_protocol(17)(&frame));
    let (from, to) = ends(&frame);
    (from, to, frame[42..].to_vec())
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[track_caller]
fn assert_silent(socket: &UdpSocket) {
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn every_peer_is_a_port_of_the_gateway_and_hears_its_own_answers() {
    let (mut rig, address) = rig();
    let peers: Vec<UdpSocket> = (0..20).map(|_| peer()).collect();
    let mut known = HashMap::new();
    for round in 0..3_u8 {
        for (number, peer) in peers.iter().enumerate() {
            peer.send_to(&[round, number as u8], address).unwrap();
        }
        for _ in &peers {
            let (from, to, bytes) = next(&mut rig);
            assert_eq!((*from.ip(), to, bytes[0]), (GATEWAY_IP, PORT, round));
            assert_eq!(*known.entry(bytes[1]).or_insert(from), from, "a peer keeps its port");
        }
    }
    let distinct: HashSet<SocketAddrV4> = known.values().copied().collect();
    assert_eq!(distinct.len(), peers.len());
    for (number, from) in &known {
        rig.gateway.transmit(&datagram(*from, PORT, &[*number, 7]));
        rig.gateway.transmit(&datagram(*from, PORT, b""));
    }
    for (number, peer) in peers.iter().enumerate() {
        peer.connect(address).unwrap();
        assert_eq!(receive(peer), [number as u8, 7]);
        assert_eq!(receive(peer), []);
        assert_silent(peer);
    }
    assert_eq!(rig.gateway.counters().peers, 20);
}

#[test]
fn what_fits_in_a_packet_is_carried_and_nothing_larger() {
    let (mut rig, address) = rig();
    let peer = peer();
    for length in [0, 1, 1471, 1472] {
        peer.send_to(&vec![length as u8; length], address).unwrap();
        assert_eq!(next(&mut rig).2, vec![length as u8; length]);
    }
    for length in [1473, 9000, 65_507] {
        peer.send_to(&vec![1; length], address).unwrap();
    }
    peer.send_to(b"after", address).unwrap();
    let (from, _, bytes) = next(&mut rig);
    assert_eq!(bytes, b"after");
    assert_eq!(rig.gateway.counters().datagrams_dropped, 3);
    rig.gateway.transmit(&datagram(from, PORT, &[9; 1472]));
    assert_eq!(receive(&peer), [9; 1472]);
}

#[test]
fn the_guest_reaches_no_peer_that_never_wrote() {
    let (mut rig, address) = rig();
    let (peer, stranger) = (peer(), peer());
    peer.send_to(b"hello", address).unwrap();
    let (from, ..) = next(&mut rig);
    let SocketAddr::V4(outside) = stranger.local_addr().unwrap() else { unreachable!() };
    let neighbours = (32_768..=65_535).filter(|&port| port != from.port());
    let ports = neighbours.map(|port| SocketAddrV4::new(GATEWAY_IP, port));
    let mut tried = 0;
    for to in ports.chain([outside, SocketAddrV4::new(GATEWAY_IP, outside.port())]) {
        rig.gateway.transmit(&datagram(to, PORT, b"x"));
        tried += 1;
    }
    // The peer is known to the published port alone, and under the gateway's address alone.
    for (to, port) in [(from, PORT + 1), (SocketAddrV4::new(*outside.ip(), from.port()), PORT)] {
        rig.gateway.transmit(&datagram(to, port, b"x"));
        tried += 1;
    }
    rig.turns(3);
    assert_silent(&peer);
    assert_silent(&stranger);
    assert_eq!(rig.gateway.counters().frames_unsupported, tried);
    // Under an address that is not its own, or in a packet that lies about its length.
    let mut spoofed = datagram(from, PORT, b"x");
    spoofed[29] ^= 1;
    rig.gateway.transmit(&spoofed);
    let mut long = datagram(from, PORT, b"x");
    long[39] = 200;
    rig.gateway.transmit(&long);
    assert_silent(&peer);
    let counters = rig.gateway.counters();
    assert_eq!((counters.frames_spoofed, counters.frames_malformed), (1, 1));
    rig.gateway.transmit(&datagram(from, PORT, b"x"));
    assert_eq!(receive(&peer), b"x");
}

#[test]
fn peers_of_several_ports_and_the_way_out_are_kept_apart() {
    let (mut rig, address) = rig();
    let other = publish(&mut rig, "127.0.0.1:0", PORT + 1);
    let (opener, script) = TestOpener::new();
    rig.gateway.set_opener(Box::new(opener)).unwrap();
    let peer = peer();
    peer.send_to(b"one", address).unwrap();
    let (one, to, _) = next(&mut rig);
    peer.send_to(b"two", other).unwrap();
    let (two, to_other, _) = next(&mut rig);
    assert_eq!((to, to_other), (PORT, PORT + 1));
    for (from, port, text, place) in [(one, to, b"1", address), (two, to_other, b"2", other)] {
        rig.gateway.transmit(&datagram(from, port, text));
        let mut buffer = [0; 16];
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (1, place));
        assert_eq!(buffer[0], text[0]);
    }
    // The same port of the gateway, from a port of the guest's own choosing, is the way out.
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    script.borrow_mut().leads.insert(one, server.local_addr().unwrap());
    rig.gateway.transmit(&datagram(one, 4000, b"out"));
    rig.turns(3);
    assert_eq!(receive(&server), b"out");
    assert_silent(&peer);
}

#[test]
fn all_addresses_of_the_host_are_told_apart() {
    let mut rig = Rig::new(config());
    rig.alive = false;
    let port = publish(&mut rig, "0.0.0.0:0", PORT).port();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut known = Vec::new();
    for last in [1, 2, 77] {
        let address = SocketAddr::from(([127, 0, 0, last], port));
        peer.send_to(&[last], address).unwrap();
        let (from, ..) = next(&mut rig);
        known.push((address, from));
    }
    for (address, from) in known {
        rig.gateway.transmit(&datagram(from, PORT, b"answer"));
        let mut buffer = [0; 16];
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (6, address));
    }
}

#[test]
fn a_guest_that_takes_nothing_costs_memory_within_bounds_and_no_wake_ups() {
    let (mut rig, address) = rig();
    let peer = peer();
    let flood = |count: usize| {
        for _ in 0..count {
            // The host may have no room for it either.
            let _ = peer.send_to(&[5; 1472], address);
        }
    };
    for _ in 0..40 {
        flood(50);
        rig.turn();
    }
    let mut readable = libc::pollfd {
        fd: std::os::fd::AsRawFd::as_raw_fd(&rig.gateway),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the array is of one valid entry during the call.
    assert_eq!(unsafe { libc::poll(&raw mut readable, 1, 0) }, 0, "nobody would serve it");
    let mut waiting = 0;
    while rig.gateway.next_frame().is_some() {
        rig.gateway.consume();
        waiting += 1;
    }
    assert!((100..400).contains(&waiting), "{waiting} frames waited");
    assert!(rig.gateway.has_work(), "there is room for what waits at the host");
    let (.., bytes) = next(&mut rig);
    assert_eq!(bytes, [5; 1472]);
    // What the host had no room for is told with the next datagram it had room for.
    rig.until("the end of the flood", |rig| {
        while rig.gateway.next_frame().is_some() {
            rig.gateway.consume();
        }
        flood(1);
        rig.gateway.counters().datagrams_overrun > 0
    });
}

#[test]
fn peers_are_bounded_and_forgotten() {
    let (mut rig, address) = rig();
    let write = |rig: &mut Rig, peers: std::ops::Range<u32>| {
        for number in peers {
            // Addresses of the loopback are as many as one likes.
            let [_, b, c, d] = (0x7f00_0001 + number * 7).to_be_bytes();
            let socket = UdpSocket::bind(SocketAddr::from(([127, b, c, d], 0))).unwrap();
            socket.send_to(b"x", address).unwrap();
            rig.turn();
            while rig.gateway.next_frame().is_some() {
                rig.gateway.consume();
            }
        }
        let counters = rig.gateway.counters();
        (counters.peers, counters.peers_turned_away)
    };
    rig.skip(1);
    let (peers, away) = write(&mut rig, 0..1024);
    assert_eq!((peers, away), (1024, 0));
    rig.skip(2);
    assert_eq!(write(&mut rig, 2000..2010), (1034, 0), "others have made room");
    assert!(rig.gateway.deadline().is_some());
    rig.skip(61);
    rig.turn();
    rig.skip(2);
    rig.turns(2);
    assert_eq!(rig.gateway.deadline(), None, "an idle gateway wakes for nothing");
}

#[test]
fn port_0_is_nobodys() {
    let mut rig = Rig::new(config());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = rig.gateway.publish_datagrams(socket, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// What peers and the guest do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Write { peer: usize, length: usize },
    Answer { to: u16, from: u16, payload: Vec<u8>, wrong_length: Option<u16> },
    Take(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = || prop_oneof![32_768_u16..32_780, any::<u16>()];
    prop_oneof![
        4 => (0..12_usize, prop_oneof![0..1473_usize, 1473..4000_usize])
            .prop_map(|(peer, length)| Step::Write { peer, length }),
        4 => (near(), prop_oneof![Just(PORT), any::<u16>()],
            prop::collection::vec(any::<u8>(), 0..40), prop::option::weighted(0.1, any::<u16>()))
            .prop_map(|(to, from, payload, wrong_length)| {
                Step::Answer { to, from, payload, wrong_length }
            }),
        2 => (0..20_usize).prop_map(Step::Take),
        1 => (0..100 * SECOND).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest answers, only those hear it who wrote before, and in the end nothing is left.
    #[test]
    fn no_answer_reaches_a_stranger(steps in prop::collection::vec(step(), 1..150)) {
        let (mut rig, address) = rig();
        let peers: Vec<UdpSocket> = (0..12).map(|_| peer()).collect();
        let mut wrote = [false; 12];
        for step in steps {
            match step {
                Step::Write { peer, length } => {
                    wrote[peer] |= length <= 1472;
                    peers[peer].send_to(&vec![1; length], address).unwrap();
                }
                Step::Answer { to, from, payload, wrong_length } => {
                    let mut frame = datagram(SocketAddrV4::new(GATEWAY_IP, to), from, &payload);
                    if let Some(length) = wrong_length {
                        frame[38..40].copy_from_slice(&length.to_be_bytes());
                    }
                    rig.gateway.transmit(&frame);
                }
                Step::Take(count) => {
                    rig.gateway.poll();
                    for _ in 0..count {
                        if let Some(frame) = rig.gateway.next_frame() {
                            prop_assert!(frame.len() <= 14 + 1500);
                            prop_assert_eq!(ends(frame).1, PORT);
                            rig.gateway.consume();
                        }
                    }
                }
                Step::Pass(time) => {
                    let now = rig.now_ns();
                    rig.skip(time / SECOND);
                    prop_assert!(rig.now_ns() >= now);
                    rig.turn();
                }
            }
        }
        for (peer, wrote) in peers.iter().zip(wrote) {
            if !wrote {
                assert_silent(peer);
            }
        }
        for _ in 0..3 {
            rig.turn();
            while rig.gateway.next_frame().is_some() {
                rig.gateway.consume();
            }
            rig.skip(70);
        }
        rig.turn();
        prop_assert_eq!(rig.gateway.deadline(), None);
    }
}

#[test]
fn who_knows_peers_is_busy_until_they_are_forgotten() {
    let (mut rig, address) = rig();
    let peer = peer();
    peer.send_to(b"hello", address).unwrap();
    assert_eq!(rig.gateway.busy(), None, "what waits in the socket waits for anybody");
    next(&mut rig);
    assert_eq!(rig.gateway.busy(), Some("carries datagrams of peers who wrote to it lately"));
    let deadline = rig.gateway.deadline().unwrap();
    rig.skip((deadline - rig.now_ns()) / SECOND + 1);
    rig.turn();
    assert_eq!(rig.gateway.busy(), None);
}
