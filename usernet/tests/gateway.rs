//! The gateway between real sockets of the host and a second TCP/IP stack that plays the guest.

mod common;

use common::{Rig, config, echo};
use denali_usernet::Config;
use smoltcp::socket::tcp::State;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Runs the rig, with the guest echoing, until the client's thread is done.
fn echo_until_done<T>(rig: &mut Rig, clients: Vec<JoinHandle<T>>) -> Vec<T> {
    rig.until("clients", |rig| {
        echo(&mut rig.guest);
        clients.iter().all(JoinHandle::is_finished)
    });
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// A connection that both ends have, with the guest's socket.
fn connected(rig: &mut Rig) -> (TcpStream, smoltcp::iface::SocketHandle) {
    rig.guest.listen(1);
    let stream = client(rig.address);
    rig.until("a connection", |rig| {
        let handle = rig.guest.connected();
        handle.is_some_and(|handle| rig.guest.socket(handle).may_send())
    });
    let handle = rig.guest.connected().unwrap();
    (stream, handle)
}

fn set_reset_on_close(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of `linger`, which outlives the call.
    let done = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size)
    };
    assert_eq!(done, 0);
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn a_request_is_answered() {
    let mut rig = Rig::new(config());
    rig.guest.listen(1);
    let address = rig.address;
    let request = thread::spawn(move || {
        let mut stream = client(address);
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(echo_until_done(&mut rig, vec![request]), [*b"hello"]);
    rig.until("the end", |rig| {
        echo(&mut rig.guest);
        rig.gateway.counters().open == 0
    });
    let counters = rig.gateway.counters();
    assert_eq!((counters.bytes_to_guest, counters.bytes_to_host), (5, 5));
    assert_eq!((counters.reset_by_guest, counters.reset_by_host), (0, 0));
}

#[test]
fn sixty_four_clients_at_once() {
    let mut rig = Rig::new(config());
    rig.guest.listen(64);
    let address = rig.address;
    let clients = (0..64).map(|number| {
        thread::spawn(move || {
            let mut stream = client(address);
            for round in 0..20 {
                let sent = noise(100 + 37 * round, number);
                stream.write_all(&sent).unwrap();
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(sent, back);
            }
        })
    });
    echo_until_done(&mut rig, clients.collect());
    assert_eq!(rig.gateway.counters().accepted, 64);
}

fn ten_mebibytes_each_way(mtu: u16) {
    let mut rig = Rig::new(Config { mtu, ..config() });
    rig.guest.listen(1);
    let stream = client(rig.address);
    let mut reader = stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let mut stream = stream;
        stream.write_all(&noise(10 << 20, 7)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        true
    });
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all == noise(10 << 20, 7)
    });
    let same = echo_until_done(&mut rig, vec![writer, reader]);
    assert_eq!(same, [true, true], "every byte, in order, after the client ended its half");
}

#[test]
fn ten_mebibytes_each_way_in_small_packets() {
    ten_mebibytes_each_way(1500);
}

#[test]
fn ten_mebibytes_each_way_in_the_largest_packets() {
    ten_mebibytes_each_way(65_535);
}

#[test]
fn the_guest_may_end_first_and_still_be_told() {
    let mut rig = Rig::new(config());
    let (mut stream, handle) = connected(&mut rig);
    rig.guest.socket(handle).send_slice(b"bye").unwrap();
    rig.guest.socket(handle).close();
    let reader = thread::spawn(move || {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(b"and to you").unwrap();
        all
    });
    rig.until("the answer", |rig| rig.guest.socket(handle).recv_queue() == 10);
    assert_eq!(reader.join().unwrap(), "bye");
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
    assert_eq!(rig.gateway.counters().reset_by_host, 0);
}

#[test]
fn a_reset_of_the_client_reaches_the_guest() {
    let mut rig = Rig::new(config());
    let (stream, handle) = connected(&mut rig);
    set_reset_on_close(&stream);
    drop(stream);
    rig.until("a reset", |rig| rig.guest.socket(handle).state() == State::Closed);
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
    assert_eq!(rig.gateway.counters().reset_by_host, 1);
}

#[test]
fn a_client_that_is_gone_resets_a_guest_that_goes_on() {
    let mut rig = Rig::new(config());
    let (stream, handle) = connected(&mut rig);
    drop(stream);
    rig.until("the client's end", |rig| rig.guest.socket(handle).state() == State::CloseWait);
    rig.until("a reset", |rig| {
        let socket = rig.guest.socket(handle);
        if socket.can_send() {
            socket.send_slice(&[0; 1000]).unwrap();
        }
        socket.state() == State::Closed
    });
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
}

fn assert_reset(stream: &mut TcpStream) {
    let mut bytes = [0; 64];
    let error = stream.read(&mut bytes).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_guest_reaches_the_client() {
    let mut rig = Rig::new(config());
    let (mut stream, handle) = connected(&mut rig);
    rig.guest.socket(handle).abort();
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
    assert_reset(&mut stream);
    assert_eq!(rig.gateway.counters().reset_by_guest, 1);
}

#[test]
fn a_port_without_a_listener_is_refused() {
    let mut rig = Rig::publishing(config(), 81);
    let mut stream = client(rig.address);
    rig.until("a refusal", |rig| rig.gateway.counters().refused_by_guest == 1);
    assert_reset(&mut stream);
    assert_eq!(rig.gateway.counters().open, 0);
}

#[test]
fn a_slow_client_holds_the_guest_back() {
    let mut rig = Rig::new(config());
    let (mut stream, handle) = connected(&mut rig);
    let total = 32 << 20;
    let mut sent = 0;
    let mut feed = |rig: &mut Rig| {
        let socket = rig.guest.socket(handle);
        while sent < total && socket.can_send() {
            sent += socket.send_slice(&vec![5; (total - sent).min(1 << 16)]).unwrap();
        }
        if sent == total {
            socket.close();
        }
        sent
    };
    let mut before = usize::MAX;
    rig.until("the guest to stall", |rig| {
        rig.turns(50);
        let now = feed(rig);
        std::mem::replace(&mut before, now) == now
    });
    assert!(before < total, "the host's buffers and ours do not hold it all");
    assert_eq!(rig.gateway.deadline().filter(|&at| at <= rig.now_ns()), None, "and nobody spins");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.len()
    });
    rig.until("the rest", |rig| {
        feed(rig);
        reader.is_finished()
    });
    assert_eq!(reader.join().unwrap(), total);
}

#[test]
fn a_slow_guest_holds_the_client_back() {
    let mut rig = Rig::new(config());
    let (mut stream, handle) = connected(&mut rig);
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut stalls = 0;
    while stalls < 50 {
        match stream.write(&[6; 1 << 16]) {
            Ok(count) => (sent, stalls) = (sent + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                stalls += 1;
                rig.turns(10);
            }
        }
    }
    let carried = rig.gateway.counters().bytes_to_guest;
    assert!(carried <= 2 * 65_536, "{carried} bytes buffered here and in the guest");
    // A guest that answers probes of its closed window is slow, not dead.
    for _ in 0..100 {
        rig.skip(5);
        rig.turns(2);
    }
    assert_eq!(rig.gateway.counters().open, 1);
    drop(stream);
    let mut got = 0;
    rig.until("the rest", |rig| {
        let socket = rig.guest.socket(handle);
        while let Ok(count @ 1..) = socket.recv(|bytes| (bytes.len(), bytes.len())) {
            got += count;
        }
        got == sent && socket.state() == State::CloseWait
    });
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    let mut rig = Rig::new(config());
    rig.alive = false;
    let mut stream = client(rig.address);
    rig.turns(3);
    assert_eq!(rig.gateway.counters().open, 1);
    rig.skip(29);
    rig.turns(3);
    assert_eq!(rig.gateway.counters().open, 1);
    rig.skip(2);
    rig.turns(3);
    assert_reset(&mut stream);
    assert_eq!(rig.gateway.counters().refused_by_guest, 1);
    assert_eq!(rig.gateway.counters().open, 0);
}

#[test]
fn a_guest_that_dies_later_is_given_up() {
    let mut rig = Rig::new(config());
    let (mut stream, _) = connected(&mut rig);
    rig.skip(100_000);
    rig.turns(3);
    assert_eq!(rig.gateway.counters().open, 1, "an idle connection lasts");
    rig.alive = false;
    stream.write_all(b"anybody there?").unwrap();
    rig.turns(3);
    for _ in 0..95 {
        rig.skip(2);
        rig.turns(1);
    }
    assert_reset(&mut stream);
    assert_eq!(rig.gateway.counters().reset_by_guest, 1);

    // The same for an end that is never acknowledged, after a long silence.
    let mut rig = Rig::new(config());
    let (stream, _) = connected(&mut rig);
    rig.skip(100_000);
    rig.alive = false;
    drop(stream);
    rig.turns(10);
    assert_eq!(rig.gateway.counters().open, 1, "it gets its time");
    rig.skip(181);
    rig.turns(5);
    rig.skip(2);
    rig.turns(5);
    assert_eq!(rig.gateway.counters().open, 0);
}

#[test]
fn connections_beyond_the_most_wait_their_turn() {
    let mut rig = Rig::new(Config { max_connections: 2, ..config() });
    rig.guest.listen(4);
    let mut first = client(rig.address);
    let second = client(rig.address);
    let mut third = client(rig.address);
    third.write_all(b"me too").unwrap();
    rig.until("two", |rig| rig.gateway.counters().accepted == 2);
    rig.turns(20);
    assert_eq!(rig.gateway.counters().accepted, 2);
    assert!(!readable(&rig.gateway), "a full house does not ask for attention");
    first.write_all(b"x").unwrap();
    drop(first);
    let reader = thread::spawn(move || {
        let mut answer = [0; 6];
        third.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(echo_until_done(&mut rig, vec![reader]), [*b"me too"]);
    drop(second);
}

fn readable(gateway: &impl std::os::fd::AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: gateway.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, as said, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn thousands_in_sequence_leave_nothing_behind() {
    let mut rig = Rig::new(config());
    rig.guest.listen(4);
    let address = rig.address;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let requests = thread::spawn(move || {
        for number in 0..2000 {
            let mut stream = client(address);
            stream.write_all(b"once").unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            if number % 3 == 0 {
                set_reset_on_close(&stream);
            }
        }
    });
    let before = descriptors();
    echo_until_done(&mut rig, vec![requests]);
    rig.until("the end", |rig| {
        echo(&mut rig.guest);
        rig.gateway.counters().open == 0
    });
    assert_eq!(rig.gateway.counters().accepted, 2000);
    assert!(descriptors() <= before + 40, "other tests have descriptors too, but not thousands");
}

#[test]
fn when_all_is_quiet_nothing_has_to_be_done() {
    let mut rig = Rig::new(config());
    assert_eq!(rig.gateway.deadline(), None);
    let (mut stream, handle) = connected(&mut rig);
    stream.write_all(b"quiet now").unwrap();
    rig.until("the bytes", |rig| rig.guest.socket(handle).recv_queue() == 9);
    rig.skip(1);
    rig.turns(3);
    assert_eq!(rig.gateway.deadline(), None, "an idle connection needs no timer");
    assert!(!readable(&rig.gateway) && !rig.gateway.has_work());
    rig.guest.socket(handle).close();
    drop(stream);
    rig.until("the end", |rig| rig.gateway.counters().open == 0);
    rig.turn();
    assert_eq!(rig.gateway.deadline(), None, "memory is given back by whoever rests");
    rig.gateway.tidy();
    rig.guest.listen(1);
    let _stream = client(rig.address);
    rig.until("another connection", |rig| rig.gateway.counters().open == 1);
    rig.gateway.tidy();
    assert_eq!(rig.gateway.counters().open, 1, "what is in use stays");
}

#[test]
fn the_guest_reaches_nobody() {
    let mut rig = Rig::new(config());
    for (number, to) in [(1, [8, 8, 8, 8]), (2, [10, 0, 2, 2])] {
        let handle = rig.guest.add_socket();
        let socket = rig.guest.sockets.get_mut::<smoltcp::socket::tcp::Socket<'_>>(handle);
        let to = (std::net::Ipv4Addr::from(to), 443);
        socket.connect(rig.guest.stack.context(), to, 50_000).unwrap();
        rig.until("a refusal", |rig| rig.guest.socket(handle).state() == State::Closed);
        assert_eq!(rig.gateway.counters().guest_connects_refused, number);
    }
}

#[test]
fn who_carries_a_connection_is_busy_until_it_has_ended() {
    let mut rig = Rig::new(config());
    rig.turns(3);
    assert_eq!(rig.gateway.busy(), None, "listening is nothing");
    rig.guest.listen(1);
    let stream = client(rig.address);
    assert_eq!(rig.gateway.busy(), None, "who waits to be accepted can wait longer");
    rig.turn();
    assert_eq!(rig.gateway.busy(), Some("carries connections"));
    drop(stream);
    rig.until("the end", |rig| {
        echo(&mut rig.guest);
        rig.gateway.busy().is_none()
    });
    assert_eq!(rig.gateway.counters().open, 0);
}
