//! Published ports: clients on the host reach guests without any rights of root's, and wake them.

mod common;

use common::stack::Server;
use common::{PATIENCE, Rig, options, port};
use denali_switch::protocol::{Ask, Port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Publishes a port of a guest.
fn publish(rig: &Rig, number: u8, guest_port: u16, udp: bool, socket: BorrowedFd<'_>) {
    let ask = Ask::Publish { port: number.into(), guest_port, udp };
    rig.client.ask(&ask, Some(socket)).unwrap();
}

/// Publishes TCP port 80 of a guest; where.
fn publish_web(rig: &Rig, number: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    publish(rig, number, 80, false, listener.as_fd());
    listener.local_addr().unwrap()
}

/// A client that has sent a line.
fn client(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello\n").unwrap();
    stream
}

/// What a client gets until the end.
#[track_caller]
fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn clients_reach_the_guest_that_is_published_where_they_connect() {
    let mut rig = Rig::new(&options(), None, &[port(0, 0), port(1, 0)]);
    let _servers = [0, 1].map(|number| Server::start(rig.connect(number), number));
    let at = [0, 1].map(|number| publish_web(&rig, number));
    let clients: Vec<(usize, TcpStream)> = (0..20).map(|n| (n % 2, client(at[n % 2]))).collect();
    for (number, stream) in clients {
        assert_eq!(answer(stream), format!("guest {number}: hello\n"));
    }
    // Guests never see each other by it, and the gateway goes when nobody needs it.
    rig.until(|it| it.connections == 0);
}

#[test]
fn a_connection_wakes_a_guest_whatever_its_filter_says() {
    let filtered = Port { wakes: vec![443], ..port(1, 0) };
    let mut rig = Rig::new(&options(), None, &[filtered]);
    let at = publish_web(&rig, 1);
    let stream = client(at);
    rig.until_wanted(1);
    let _server = Server::start(rig.connect(1), 1);
    assert_eq!(answer(stream), "guest 1: hello\n");
    let counters = rig.counters();
    assert_eq!((counters.wanted, counters.waiting), (1, 0));
}

#[test]
fn datagrams_reach_a_guest_and_its_answers_their_senders() {
    let mut rig = Rig::new(&options(), None, &[port(1, 0)]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    publish(&rig, 1, 53, true, socket.as_fd());
    let at = socket.local_addr().unwrap();
    let peers: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (number, peer) in peers.iter().enumerate() {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.send_to(format!("peer {number}").as_bytes(), at).unwrap();
    }
    rig.until_wanted(1);
    let _server = Server::start(rig.connect(1), 1);
    for (number, peer) in peers.iter().enumerate() {
        let mut bytes = [0; 100];
        let (length, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from), (format!("guest 1: peer {number}").as_bytes(), at));
    }
}

#[test]
fn what_is_published_no_more_is_closed_and_connections_go_on() {
    let mut rig = Rig::new(&options(), None, &[port(1, 0)]);
    let at = publish_web(&rig, 1);
    let stream = client(at);
    rig.until_wanted(1);
    let ask = Ask::Unpublish { port: 1, guest_port: 80, udp: false };
    rig.client.ask(&ask, None).unwrap();
    assert_eq!(rig.counters().connections, 1);
    assert!(TcpStream::connect(at).is_err());
    let _server = Server::start(rig.connect(1), 1);
    assert_eq!(answer(stream), "guest 1: hello\n");
    let at = publish_web(&rig, 1);
    let mut stream = client(at);
    rig.until(|it| it.connections > 0 || it.sent > 0);
    rig.client.ask(&Ask::Remove { ports: vec![1] }, None).unwrap();
    assert_eq!(rig.counters().ports, 0);
    let mut text = String::new();
    // It has been answered, or is reset.
    let _ = stream.read_to_string(&mut text);
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn connections_are_bounded_and_more_wait() {
    let mut options = options();
    options.connections = 3;
    let mut rig = Rig::new(&options, None, &[port(1, 0)]);
    let at = publish_web(&rig, 1);
    let streams: Vec<TcpStream> = (0..10).map(|_| client(at)).collect();
    rig.until_wanted(1);
    let counters = rig.until(|it| it.connections == 3);
    assert_eq!(counters.connections, 3);
    let _server = Server::start(rig.connect(1), 1);
    for stream in streams {
        assert_eq!(answer(stream), "guest 1: hello\n");
    }
}
