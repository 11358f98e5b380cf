//! Connections and datagrams that a guest sends out, through an opener.

mod common;

use common::datagrams::{datagram, frame, is_protocol};
use common::opener::{Shared, TestOpener};
use common::{GATEWAY_IP, GUEST_IP, Rig, config};
use denali_usernet::{Config, Failure, Untaken};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};

const OUTSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 443);

fn rig() -> (Rig, Shared) {
    rig_with(config())
}

fn rig_with(config: Config) -> (Rig, Shared) {
    let mut rig = Rig::new(config);
    let (opener, script) = TestOpener::new();
    rig.gateway.set_opener(Box::new(opener)).unwrap();
    (rig, script)
}

/// A server of this machine to which `OUTSIDE` leads.
fn server(script: &Shared) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    script.borrow_mut().leads.insert(OUTSIDE, listener.local_addr().unwrap());
    listener
}

fn connect(rig: &mut Rig, to: SocketAddrV4, port: u16) -> SocketHandle {
    let handle = rig.guest.add_socket();
    let socket = rig.guest.sockets.get_mut::<smoltcp::socket::tcp::Socket<'_>>(handle);
    socket.connect(rig.guest.stack.context(), (*to.ip(), to.port()), port).unwrap();
    handle
}

fn state(rig: &mut Rig, handle: SocketHandle) -> State {
    rig.guest.socket(handle).state()
}

/// A connection that is up, and the server's end of it.
fn connected(rig: &mut Rig, script: &Shared) -> (SocketHandle, TcpStream) {
    let listener = server(script);
    let handle = connect(rig, OUTSIDE, 50_000);
    rig.until("a connection", |rig| state(rig, handle) == State::Established);
    (handle, listener.accept().unwrap().0)
}

#[test]
fn bytes_and_ends_travel_both_ways() {
    let (mut rig, script) = rig();
    let (handle, stream) = connected(&mut rig, &script);
    let echo = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        (&stream).read_to_end(&mut bytes).unwrap();
        (&stream).write_all(&bytes).unwrap();
        bytes.len()
    });
    const LENGTH: usize = 1 << 20;
    let (mut sent, mut received) = (0, Vec::new());
    rig.until("the echo", |rig| {
        let socket = rig.guest.socket(handle);
        while sent < LENGTH && socket.can_send() {
            let chunk: Vec<u8> = (sent..LENGTH.min(sent + 4096)).map(|n| (n % 251) as u8).collect();
            sent += socket.send_slice(&chunk).unwrap();
            if sent == LENGTH {
                socket.close();
            }
        }
        while socket.can_recv() {
            received.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        }
        received.len() == LENGTH && matches!(socket.state(), State::TimeWait | State::Closed)
    });
    assert_eq!(echo.join().unwrap(), LENGTH);
    assert!(received.iter().enumerate().all(|(n, &byte)| byte == (n % 251) as u8));
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
    let counters = rig.gateway.counters();
    assert_eq!((counters.egress_connects, counters.guest_connects_refused), (1, 0));
    assert_eq!((counters.reset_by_guest, counters.reset_by_host), (0, 0));
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let (mut rig, script) = rig();
    let (handle, mut stream) = connected(&mut rig, &script);
    stream.write_all(b"220 ready").unwrap();
    rig.until("a greeting", |rig| rig.guest.socket(handle).recv_queue() == 9);
}

#[test]
fn the_guest_hears_of_success_only_when_there_is_one() {
    let (mut rig, script) = rig();
    let listener = server(&script);
    script.borrow_mut().holding = true;
    let handle = connect(&mut rig, OUTSIDE, 50_000);
    rig.turns(20);
    // The guest's stack asks again and again: that is one wish.
    rig.skip(3);
    rig.turns(20);
    rig.skip(3);
    rig.turns(20);
    assert_eq!(state(&mut rig, handle), State::SynSent);
    assert_eq!(script.borrow().asked, 1);
    script.borrow_mut().release();
    rig.until("a connection", |rig| state(rig, handle) == State::Established);
    listener.accept().unwrap();
}

#[test]
fn what_is_denied_or_fails_is_reset() {
    let (mut rig, script) = rig();
    let handle = connect(&mut rig, OUTSIDE, 50_000);
    rig.until("a refusal", |rig| state(rig, handle) == State::Closed);
    let _listener = server(&script);
    script.borrow_mut().failure = Some(Failure::Unreachable);
    let handle = connect(&mut rig, OUTSIDE, 50_001);
    rig.until("a refusal", |rig| state(rig, handle) == State::Closed);
    script.borrow_mut().failure = None;
    script.borrow_mut().untaken = Some(Untaken::Never);
    let handle = connect(&mut rig, OUTSIDE, 50_002);
    rig.until("a refusal", |rig| state(rig, handle) == State::Closed);
    let counters = rig.gateway.counters();
    assert_eq!((counters.egress_refused, counters.guest_connects_refused), (2, 3));
    assert_eq!((counters.egress_connects, counters.open), (0, 0));
}

#[test]
fn when_there_is_too_much_the_guest_tries_again() {
    let (mut rig, script) = rig();
    let _listener = server(&script);
    for busy in [true, false] {
        if busy {
            script.borrow_mut().failure = Some(Failure::Busy);
        } else {
            script.borrow_mut().untaken = Some(Untaken::Later);
        }
        let handle = connect(&mut rig, OUTSIDE, 50_000 + u16::from(busy));
        rig.turns(20);
        assert_eq!(state(&mut rig, handle), State::SynSent);
        script.borrow_mut().failure = None;
        script.borrow_mut().untaken = None;
        rig.skip(2);
        rig.until("a connection", |rig| state(rig, handle) == State::Established);
    }
    assert_eq!(rig.gateway.counters().guest_connects_refused, 0);
}

#[test]
fn resets_travel_both_ways() {
    let (mut rig, script) = rig();
    let (handle, mut stream) = connected(&mut rig, &script);
    rig.guest.socket(handle).abort();
    rig.until("a reset", |rig| rig.gateway.counters().reset_by_guest == 1);
    assert!(stream.read(&mut [0]).is_err());

    let (handle, stream) = {
        let listener = server(&script);
        let handle = connect(&mut rig, OUTSIDE, 50_001);
        rig.until("a connection", |rig| state(rig, handle) == State::Established);
        (handle, listener.accept().unwrap().0)
    };
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is valid during the call.
    unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stream);
        let size = size_of::<libc::linger>() as u32;
        let value = (&raw const linger).cast();
        assert_eq!(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, size), 0);
    }
    drop(stream);
    rig.until("a reset", |rig| state(rig, handle) == State::Closed);
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
}

#[test]
fn a_guest_that_gives_up_while_it_waits_leaves_nothing() {
    let (mut rig, script) = rig();
    let listener = server(&script);
    script.borrow_mut().holding = true;
    let handle = connect(&mut rig, OUTSIDE, 50_000);
    rig.turns(10);
    rig.guest.socket(handle).abort();
    rig.turns(10);
    script.borrow_mut().release();
    let mut stream = listener.accept().unwrap().0;
    rig.until("the end", |rig| {
        let counters = rig.gateway.counters();
        counters.egress_connects == 1 && counters.open == 0
    });
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
}

#[test]
fn connections_in_and_out_are_limited_together() {
    let (mut rig, script) = rig_with(Config { max_connections: 3, ..config() });
    rig.guest.listen(2);
    let clients: Vec<_> = (0..2).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
    rig.until("clients", |rig| rig.gateway.counters().open == 2);
    let _listener = server(&script);
    let first = connect(&mut rig, OUTSIDE, 50_000);
    rig.until("a connection", |rig| state(rig, first) == State::Established);
    let second = connect(&mut rig, OUTSIDE, 50_001);
    rig.turns(50);
    assert_eq!((state(&mut rig, second), script.borrow().asked), (State::SynSent, 1));
    drop(clients);
    let listening = rig.guest.listening.clone();
    rig.until("clients leave", |rig| {
        listening.iter().for_each(|&handle| rig.guest.socket(handle).close());
        rig.gateway.counters().open == 1
    });
    rig.skip(5);
    rig.until("a connection", |rig| state(rig, second) == State::Established);
}

#[test]
fn a_guest_cannot_take_the_place_of_a_client() {
    let (mut rig, _script) = rig();
    rig.guest.listen(1);
    let _client = TcpStream::connect(rig.address).unwrap();
    rig.until("a client", |rig| rig.guest.connected().is_some());
    let handle = rig.guest.connected().unwrap();
    let port = rig.guest.socket(handle).remote_endpoint().unwrap().port;
    // From another port to the gateway's port of that connection: another conversation.
    let other = connect(&mut rig, SocketAddrV4::new(GATEWAY_IP, port), 81);
    rig.until("a refusal", |rig| state(rig, other) == State::Closed);
    rig.turns(20);
    assert_eq!((state(&mut rig, handle), rig.gateway.counters().open), (State::Established, 1));
}

#[test]
fn without_its_opener_the_guest_reaches_nobody() {
    let (mut rig, script) = rig();
    let (first, _stream) = connected(&mut rig, &script);
    script.borrow_mut().holding = true;
    let waiting = connect(&mut rig, OUTSIDE, 50_001);
    rig.turns(10);
    script.borrow_mut().disappear();
    rig.until("a refusal", |rig| state(rig, waiting) == State::Closed);
    let late = connect(&mut rig, OUTSIDE, 50_002);
    rig.until("a refusal", |rig| state(rig, late) == State::Closed);
    assert_eq!(state(&mut rig, first), State::Established, "what is open stays open");
}

#[test]
fn datagrams_travel_both_ways() {
    let (mut rig, script) = rig();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    script.borrow_mut().leads.insert(OUTSIDE, server.local_addr().unwrap());
    for text in [&b"first"[..], b"second", b""] {
        rig.gateway.transmit(&datagram(OUTSIDE, 4000, text));
    }
    rig.turns(3);
    let mut buffer = [0; 100];
    for text in [&b"first"[..], b"second", b""] {
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text);
        server.send_to(&[b"re: ", text].concat(), peer).unwrap();
        let answer = frame(&mut rig, is_protocol(17));
        assert_eq!(answer[26..34], [OUTSIDE.ip().octets(), GUEST_IP.octets()].concat());
        assert_eq!(answer[34..38], [443_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat());
        assert_eq!(answer[42..], [b"re: ", text].concat());
    }
    // What would not fit into a packet is dropped, and so is what strangers send.
    let (_, peer) = (0, {
        rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"x"));
        server.recv_from(&mut buffer).unwrap().1
    });
    server.send_to(&[0; 1473], peer).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"stranger", peer).unwrap();
    server.send_to(&[7; 1472], peer).unwrap();
    let answer = frame(&mut rig, is_protocol(17));
    assert_eq!((answer.len(), answer[42]), (14 + 1500, 7));
    let counters = rig.gateway.counters();
    assert_eq!((counters.conversations, counters.datagrams_dropped), (1, 1));
}

#[test]
fn datagrams_that_reach_nobody_are_told_of() {
    let (mut rig, script) = rig();
    rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"denied"));
    let told = frame(&mut rig, is_protocol(1));
    assert_eq!((told[34], told[35], &told[26..30]), (3, 13, &GATEWAY_IP.octets()[..]));
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    script.borrow_mut().leads.insert(OUTSIDE, dead);
    rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"nobody there"));
    rig.turns(3);
    rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"nobody there"));
    let told = frame(&mut rig, is_protocol(1));
    assert_eq!((told[34], told[35], &told[26..30]), (3, 3, &OUTSIDE.ip().octets()[..]));
    assert_eq!(told[62..66], [4000_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat());
}

#[test]
fn conversations_are_bounded_and_forgotten() {
    let (mut rig, script) = rig();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    script.borrow_mut().leads.insert(OUTSIDE, server.local_addr().unwrap());
    let second = 1_000_000_000;
    let mut send = |ports: std::ops::Range<u16>, seconds: u64| {
        rig.gateway.begin((1000 + seconds) * second);
        for port in ports {
            rig.gateway.transmit(&datagram(OUTSIDE, port, b"x"));
            rig.gateway.poll();
        }
        rig.gateway.poll();
        rig.gateway.counters().conversations
    };
    assert_eq!(send(1000..2000, 0), 256, "none has rested yet");
    assert_eq!(send(3000..3010, 2), 266, "others have made room");
    send(0..0, 70);
    send(0..0, 72);
    assert_eq!(rig.gateway.deadline(), None, "an idle gateway wakes for nothing");
}

#[test]
fn questions_about_names_are_answered_by_the_gateway() {
    let (mut rig, _script) = rig_with(Config { resolves: true, ..config() });
    let gateway = SocketAddrV4::new(GATEWAY_IP, 53);
    rig.gateway.transmit(&datagram(gateway, 4000, b"question"));
    let answer = frame(&mut rig, is_protocol(17));
    assert_eq!((&answer[26..30], &answer[42..]), (&GATEWAY_IP.octets()[..], &b"question!"[..]));
    rig.gateway.transmit(&datagram(gateway, 4001, &[0, 1, 0, 0, 9]));
    frame(&mut rig, is_protocol(17));
    let counters = rig.gateway.counters();
    assert_eq!((counters.dns_queries, counters.dns_refused), (2, 1));
    // At any other port, and at any other address, there is no such answer.
    rig.gateway.transmit(&datagram(SocketAddrV4::new(GATEWAY_IP, 54), 4002, b"question"));
    frame(&mut rig, is_protocol(1));
    rig.gateway.transmit(&datagram(SocketAddrV4::new(*OUTSIDE.ip(), 53), 4002, b"question"));
    frame(&mut rig, is_protocol(1));
    assert_eq!(rig.gateway.counters().dns_queries, 2);
}

#[test]
fn without_rules_datagrams_go_nowhere() {
    let mut rig = Rig::new(Config { resolves: true, ..config() });
    rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"x"));
    rig.gateway.transmit(&datagram(SocketAddrV4::new(GATEWAY_IP, 53), 4000, b"x"));
    rig.turns(3);
    assert_eq!(rig.gateway.counters().frames_unsupported, 2);
    assert!(rig.gateway.next_frame().is_none());
}

#[test]
fn who_waits_for_something_outside_is_busy() {
    let (mut rig, script) = rig();
    rig.alive = false;
    assert_eq!(rig.gateway.busy(), None);
    script.borrow_mut().holding = true;
    let dns = SocketAddrV4::new(GATEWAY_IP, 53);
    rig.gateway.transmit(&datagram(dns, 4000, b"question"));
    rig.gateway.poll();
    let outside = Some("has datagrams or questions of the guest under way outside");
    assert_eq!(rig.gateway.busy(), outside);
    script.borrow_mut().release();
    rig.until("an answer", |rig| rig.gateway.next_frame().is_some());
    assert_eq!(rig.gateway.busy(), Some("has frames that the guest has not taken"));
    rig.gateway.consume();
    assert_eq!(rig.gateway.busy(), None);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    script.borrow_mut().leads.insert(OUTSIDE, socket.local_addr().unwrap());
    rig.gateway.transmit(&datagram(OUTSIDE, 4000, b"hello"));
    rig.gateway.poll();
    assert_eq!(rig.gateway.busy(), outside, "somebody may answer");
    rig.skip(61);
    rig.turn();
    assert_eq!(rig.gateway.busy(), None);
    script.borrow_mut().holding = true;
    rig.alive = true;
    connect(&mut rig, OUTSIDE, 50_000);
    rig.turns(3);
    assert_eq!(rig.gateway.busy(), Some("carries connections"), "one that is to be");
}
