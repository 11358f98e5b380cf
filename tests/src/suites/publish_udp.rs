//! Datagrams from the host to a guest that answers them, through published UDP ports.

use crate::backend::Backend;
use crate::guest::{Guest, Run, wait_until};
use crate::registry::{Case, Suite};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Port of the guest.
const PORT: u16 = 5000;

/// Most bytes of a datagram that fit in a packet of the default MTU.
const FITS: usize = 1472;

/// How long an answer is waited for before a datagram is sent again: any may be lost.
const AGAIN: Duration = Duration::from_millis(500);

pub fn suite() -> Suite {
    Suite {
        name: "publish_udp",
        cases: vec![
            Case::each("datagrams_are_answered", answers),
            Case::each("every_peer_hears_its_own_answers", peers),
            Case::each("more_peers_than_there_is_room_for", crowd),
            Case::each("what_is_too_large_is_dropped", sizes),
            Case::each("all_addresses_of_the_host", addresses),
            Case::each("peers_that_never_wrote_hear_nothing", strangers),
            Case::each("a_flood_harms_nobody_else", flood),
        ],
    }
}

/// A guest that answers datagrams to `at`, and where that is.
fn echo(backend: Backend, at: &str) -> (Guest, SocketAddr) {
    let run = backend.probe(&format!("udp-echo {PORT}")).option("--publish");
    started(run.option(format!("{at}:0:{PORT}/udp")))
}

fn started(run: Run) -> (Guest, SocketAddr) {
    let guest = run.json().start();
    guest.wait_for("ready");
    let output = guest.stdout();
    let event = output.lines().next().and_then(|line| serde_json::from_str(line).ok());
    let event: serde_json::Value = event.expect("the first line is an event");
    assert_eq!((&event["event"], &event["protocol"]), (&"published".into(), &"udp".into()));
    let host = event["host"].as_str().and_then(|host| host.parse().ok());
    (guest, host.expect("the event says where"))
}

fn peer(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address of this host");
    socket.set_read_timeout(Some(AGAIN)).expect("a socket can have a time-out");
    socket
}

/// Sends a datagram until it comes back.
#[track_caller]
fn exchange(socket: &UdpSocket, datagram: &[u8]) {
    let mut answer = vec![0; 65_536];
    wait_until("an answer", || {
        socket.send(datagram).expect("the guest is there");
        // Answers to datagrams that were sent again may still come.
        while let Ok(length) = socket.recv(&mut answer) {
            if answer[..length] == *datagram {
                return true;
            }
        }
        false
    });
}

#[track_caller]
fn assert_silent(socket: &UdpSocket) {
    socket.set_nonblocking(true).expect("a socket can be non-blocking");
    let error = socket.recv(&mut [0; 16]).expect_err("somebody was written to");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Stops the guest; the counters of its network device.
fn counters(guest: Guest) -> serde_json::Value {
    guest.signal(libc::SIGTERM);
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let events = finished.stdout.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut ends = events.filter(|event: &serde_json::Value| event["devices"].is_object());
    ends.next().map(|end| end["devices"]["net0"].clone()).expect("the guest's end is told")
}

fn answers(backend: Backend) {
    let run = backend.probe(&format!("udp-echo {PORT}"));
    // The same port for both protocols: they do not meet.
    let run = run.option("--publish").option(format!("0:{PORT}/udp"));
    let guest = run.option("--publish").option(format!("0:{PORT}")).start();
    guest.wait_for("ready");
    let [udp, tcp] = guest.addresses(2)[..] else { panic!("{guest}") };
    guest.wait_for_error(&format!("{udp}/udp leads to port {PORT} of the guest"));
    guest.wait_for_error(&format!("{tcp} leads to port {PORT} of the guest"));
    let socket = peer(udp);
    for datagram in [&b"hello"[..], b"", &[0xff; FITS]] {
        exchange(&socket, datagram);
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn peers(backend: Backend) {
    let (guest, address) = echo(backend, "127.0.0.1");
    let peers: Vec<UdpSocket> = (0..100).map(|_| peer(address)).collect();
    for round in 0..3 {
        for (number, socket) in peers.iter().enumerate() {
            exchange(socket, format!("round {round}, peer {number}").as_bytes());
        }
    }
    let counters = counters(guest);
    assert_eq!((&counters["peers"], &counters["peers_turned_away"]), (&100.into(), &0.into()));
}

/// Those for whom there is no room get in once others have been silent for long enough.
fn crowd(backend: Backend) {
    let (guest, address) = echo(backend, "127.0.0.1");
    let first = peer(address);
    exchange(&first, b"the first");
    // Each is another peer to the host, and answered: none makes room soon.
    let crowd: Vec<UdpSocket> = (0..1023).map(|_| peer(address)).collect();
    for socket in &crowd {
        exchange(socket, b"one of many");
    }
    exchange(&first, b"still there");
    let late = peer(address);
    exchange(&late, b"there is room again");
    exchange(&first, b"still there");
    let counters = counters(guest);
    let peers = counters["peers"].as_u64().expect("a number");
    assert!(peers >= 1025, "{counters}");
}

fn sizes(backend: Backend) {
    let (guest, address) = echo(backend, "127.0.0.1");
    let socket = peer(address);
    for length in [1, 1471, FITS] {
        exchange(&socket, &vec![length as u8; length]);
    }
    for length in [FITS + 1, 9000, 65_507] {
        socket.send(&vec![1; length]).expect("the host sends it");
    }
    exchange(&socket, b"after those");
    assert_eq!(counters(guest)["datagrams_dropped"], 3);
    let run = backend.probe(&format!("udp-echo {PORT}")).option("--set").option(format!(
        r#"net=[{{"mtu": 9000, "backend": {{"user": {{"publish": ["0:{PORT}/udp"]}}}}}}]"#
    ));
    let (guest, address) = started(run);
    let socket = peer(address);
    exchange(&socket, &[7; 9000 - 28]);
    socket.send(&[1; 9000 - 27]).expect("the host sends it");
    exchange(&socket, b"after that");
    assert_eq!(counters(guest)["datagrams_dropped"], 1);
}

/// Answers come from the address that was written to; else a peer that is connected hears nothing.
fn addresses(backend: Backend) {
    let (guest, address) = echo(backend, "0.0.0.0");
    for last in [1, 2, 99] {
        exchange(&peer(SocketAddr::from(([127, 0, 0, last], address.port()))), b"hello");
    }
    drop(guest);
    if UdpSocket::bind("[::1]:0").is_err() {
        return; // a host without IPv6
    }
    let (_guest, address) = echo(backend, "[::]");
    let socket = UdpSocket::bind("[::1]:0").expect("a free port");
    socket.connect(("::1", address.port())).expect("an address of this host");
    socket.set_read_timeout(Some(AGAIN)).expect("a socket can have a time-out");
    exchange(&socket, b"hello");
}

fn strangers(backend: Backend) {
    let (guest, address) = echo(backend, "127.0.0.1");
    let strangers: Vec<UdpSocket> = (0..10).map(|_| peer(address)).collect();
    let socket = peer(address);
    // The guest writes to 128 other ports of the gateway too, and from a port that is not published.
    exchange(&socket, b"stray");
    exchange(&socket, b"after that");
    for stranger in &strangers {
        assert_silent(stranger);
    }
    let counters = counters(guest);
    assert_eq!(counters["peers"], 1);
    assert!(counters["frames_unsupported"].as_u64() >= Some(129), "{counters}");
}

/// Somebody who writes as fast as it can, to a guest with more to do than that.
fn flood(backend: Backend) {
    let (guest, address) = echo(backend, "127.0.0.1");
    let (flooding, other) = (peer(address), peer(address));
    for _ in 0..20 {
        for _ in 0..500 {
            // The host may have no room for it.
            let _ = flooding.send(&[7; FITS]);
        }
        exchange(&other, b"is anybody there?");
    }
    let counters = counters(guest);
    assert_eq!((&counters["peers"], &counters["peers_turned_away"]), (&2.into(), &0.into()));
}
