//! Guests and their host over a TUN interface, in a network namespace of the test's own. What this machine cannot run is
//! reported as ignored, with the reason: `[skipped: not root]`.

mod common;

use common::bytes::{Ends, datagram, segment};
use common::stack::{Server, Stack};
use common::{GATEWAY, Rig, ends, options, port};
use denali_switch::{Policy, tun};
use libtest_mimic::{Arguments, Trial};
use nix::errno::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

type Case = (&'static str, fn(bool));

const CASES: [Case; 7] = [
    ("the_host_reaches_guests_and_guests_the_host", both_ways),
    ("checksums_are_left_to_each_other_where_that_is_possible", checksums),
    ("a_packet_of_the_host_wakes_a_guest", wakes),
    ("guests_do_not_meet_on_the_hosts_side", no_detour),
    ("what_is_for_nobody_or_everybody_goes_nowhere", nobody),
    ("an_uplink_that_is_taken_away_leaves_the_guests_to_each_other", taken_away),
    ("many_connections_at_once_and_published_ports_beside_them", many),
];

fn main() -> ExitCode {
    let missing = missing();
    let each = |(name, body): Case, header: bool| {
        let kind = if header { "with_header" } else { "plain" };
        let run = move || {
            isolated(|| body(header));
            Ok(())
        };
        let trial = Trial::test(format!("{kind}::{name}"), run);
        match missing {
            Some(reason) => trial.with_kind(format!("skipped: {reason}")).with_ignored_flag(true),
            None => trial,
        }
    };
    let trials = CASES.into_iter().flat_map(|case| [true, false].map(|header| each(case, header)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// What these tests need and this machine does not have.
fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root");
    }
    if File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        return Some("no usable /dev/net/tun");
    }
    let ip = Command::new("ip").arg("-V").output();
    ip.is_err().then_some("no program ip")
}

/// Runs on a thread in a network namespace of its own.
fn isolated(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: moves this thread, which ends with the test, into a new namespace.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "a network namespace: {}", Errno::last());
            ip("link set lo up");
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[track_caller]
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A TUN interface with the gateway's address: as the switch's own code makes it, or without the header.
fn uplink(header: bool) -> OwnedFd {
    if header {
        return tun::open("uplink", &options()).unwrap();
    }
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: zeroes are a request without name and flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"uplink") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the structure lives during the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw const request) };
    Errno::result(made).unwrap();
    ip(&format!("address add {}/16 dev uplink", Ipv4Addr::from(GATEWAY.address)));
    ip("link set uplink up");
    file.into()
}

/// A switch with an uplink and these guests' ports.
fn rig(header: bool, policy: Policy, numbers: &[u8]) -> Rig {
    let uplink = uplink(header);
    let ports: Vec<_> = numbers.iter().map(|&number| port(number, 0)).collect();
    let options = denali_switch::Options { policy, ..options() };
    Rig::new(&options, Some(&uplink), &ports)
}

fn web(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(ends(number).address.into(), 80)
}

/// Asks a guest's port 80, or what is published of it.
#[track_caller]
fn ask(to: SocketAddrV4) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"hello\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn both_ways(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0, 1]);
    let _server = Server::start(rig.connect(0), 0);
    assert_eq!(ask(web(0)), "guest 0: hello\n");
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    socket.send_to(b"datagram", SocketAddrV4::new(ends(0).address.into(), 53)).unwrap();
    let mut bytes = [0; 100];
    let (length, _) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"guest 0: datagram");
    let guest = rig.connect(1);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let at = SocketAddrV4::new(GATEWAY.address.into(), listener.local_addr().unwrap().port());
    let host = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(format!("{from} said ").as_bytes()).unwrap();
        stream.write_all(&line).unwrap();
    });
    let answer = Stack::new(&guest).ask(at, "hello\n");
    assert!(answer.starts_with("10.99.0.11:") && answer.ends_with(" said hello\n"), "{answer}");
    host.join().unwrap();
    let counters = rig.counters();
    assert!(counters.uplink_received >= 5 && counters.uplink_sent >= 5, "{counters:?}");
}

fn checksums(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0]);
    let guest = rig.connect(0);
    // From the host: a SYN, of which the switch leaves to the guest what the host has left to it.
    std::thread::scope(|scope| {
        scope.spawn(|| TcpStream::connect_timeout(&web(0).into(), Duration::from_millis(100)));
    });
    let message = guest.receive_within(common::PATIENCE).expect("a SYN");
    assert_eq!(message[0] & 1 != 0, header);
    let frame = common::bytes::completed(&message);
    assert_eq!(common::bytes::verify(&frame), 0);
    // From the guest: a SYN whose checksum is left to whoever is behind the switch.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let ports = [1000, listener.local_addr().unwrap().port()];
    let mut left = segment(guest.ends, GATEWAY, ports, 7, 2);
    left[50..52].copy_from_slice(&common::bytes::pseudo(guest.ends, GATEWAY, 6, 20));
    let asks = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    guest.send_message(&[&asks[..], &left].concat());
    loop {
        let frame = guest.receive();
        if frame[47] == 0x12 && frame[36..38] == 1000_u16.to_be_bytes() {
            assert_eq!(common::bytes::verify(&frame), 0, "a SYN with acknowledgement");
            return;
        }
    }
}

fn wakes(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0]);
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(web(0)));
        rig.until_wanted(0);
        let _server = Server::start(rig.connect(0), 0);
        client.join().unwrap()
    });
    assert_eq!(client, "guest 0: hello\n");
    assert_eq!(rig.counters().wanted, 1);
}

fn no_detour(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0, 1]);
    // The host would carry it back, if it were asked.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    let routed = Ends { mac: GATEWAY.mac, ..b.ends };
    a.send(&datagram(a.ends, routed, [1000, 2000], b"psst"));
    let counters = rig.until(|it| it.sent == 1);
    assert_eq!((counters.dropped.forbidden, counters.uplink_sent), (1, 0));
    b.hears_nothing();
}

fn nobody(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0]);
    let guest = rig.connect(0);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_broadcast(true).unwrap();
    for address in [[10, 99, 0, 77], [10, 99, 255, 255]] {
        // Nobody is there: the host may say so at once.
        let _ = socket.send_to(b"?", SocketAddrV4::new(address.into(), 53));
    }
    let counters = rig.until(|it| it.dropped.unknown >= 1 && it.dropped.broadcast >= 1);
    assert_eq!(counters.received, 0, "{counters:?}");
    for address in [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let to = Ends { mac: GATEWAY.mac, address };
        guest.send(&datagram(guest.ends, to, [1, 2], b"?"));
    }
    let counters = rig.until(|it| it.sent == 3);
    assert_eq!(counters.uplink_sent, 0, "{counters:?}");
}

fn taken_away(header: bool) {
    let mut rig = rig(header, Policy::Open, &[0, 1]);
    let [a, b] = [0, 1].map(|number| rig.connect(number));
    ip("link delete uplink");
    assert!(rig.complaint().contains("the uplink was taken away"));
    a.say(b.ends, "still there?");
    assert_eq!(b.hear(), "still there?");
    a.say(GATEWAY, "and you?");
    rig.until(|it| it.dropped.no_uplink == 1);
}

fn many(header: bool) {
    let mut rig = rig(header, Policy::Isolated, &[0]);
    let _server = Server::start(rig.connect(0), 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let published = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
    let publish = denali_switch::protocol::Ask::Publish { port: 0, guest_port: 80, udp: false };
    rig.client.ask(&publish, Some(std::os::fd::AsFd::as_fd(&listener))).unwrap();
    drop(listener);
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for _ in 0..10 {
                    let to = if number % 2 == 0 { web(0) } else { published };
                    assert_eq!(ask(to), "guest 0: hello\n");
                }
            });
        }
    });
}
