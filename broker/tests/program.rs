//! The program as a monitor sees it, a friendly one and one that was taken over: it connects where the
//! rules lead, and nowhere else, whatever is asked and however much.

mod common;

use common::{Broker, Outcome, next_answer, until};
use denali_broker::message::{MESSAGE_MAX, Request};
use denali_broker::{Failure, Policy, Protocol, Rule, Service, Target, Unsent};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{MsgFlags, send};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

fn policy(rules: Vec<Rule>) -> Policy {
    let [address, gateway] = [15, 2].map(|last| Ipv4Addr::new(10, 0, 2, last));
    Policy { rules, address, prefix_len: 24, gateway }
}

fn loopback(protocol: Protocol, port: u16) -> Rule {
    Rule { target: Target::Range(Ipv4Addr::LOCALHOST, 32), ports: vec![(port, port)], protocol }
}

fn egress(rules: Vec<Rule>) -> Service {
    Service::Egress { policy: policy(rules), resolvers: Vec::new() }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("{address} is no IPv4 address"),
    }
}

fn listener() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = v4(listener.local_addr().unwrap());
    (listener, address)
}

#[test]
fn tcp_connects_where_a_rule_leads_and_nowhere_else() {
    let ((allowed, to), (other, elsewhere)) = (listener(), listener());
    let mut broker = Broker::start(vec![egress(vec![loopback(Protocol::Tcp, to.port())])]);
    let mut client = broker.client();
    client.connect(1, Protocol::Tcp, to).unwrap();
    let Some((1, Outcome::Connected(socket))) = next_answer(&mut client) else { panic!() };
    let (mut accepted, _) = allowed.accept().unwrap();
    let mut stream = TcpStream::from(socket);
    assert!(stream.nodelay().unwrap());
    stream.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    accepted.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");

    client.connect(2, Protocol::Tcp, elsewhere).unwrap();
    assert!(matches!(next_answer(&mut client), Some((2, Outcome::Failed(Failure::Denied)))));
    client.connect(3, Protocol::Udp, to).unwrap();
    assert!(matches!(next_answer(&mut client), Some((3, Outcome::Failed(Failure::Denied)))));
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "nobody came");
    drop(allowed);
    client.connect(4, Protocol::Tcp, to).unwrap();
    assert!(matches!(next_answer(&mut client), Some((4, Outcome::Failed(Failure::Refused)))));
}

#[test]
fn udp_sockets_are_connected_to_one_peer() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = v4(server.local_addr().unwrap());
    let mut broker = Broker::start(vec![egress(vec![loopback(Protocol::Udp, to.port())])]);
    let mut client = broker.client();
    client.connect(9, Protocol::Udp, to).unwrap();
    let Some((9, Outcome::Connected(socket))) = next_answer(&mut client) else { panic!() };
    let socket = UdpSocket::from(socket);
    assert_eq!(socket.peer_addr().unwrap(), SocketAddr::V4(to));
    socket.send(b"ping").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(server.recv_from(&mut buffer).unwrap().0, 4);
}

#[test]
fn the_gateway_is_the_hosts_loopback() {
    let (_listener, to) = listener();
    let rule =
        Rule { target: Target::Host, ports: vec![(to.port(), to.port())], protocol: Protocol::Tcp };
    let mut broker = Broker::start(vec![egress(vec![rule])]);
    let mut client = broker.client();
    let gateway = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 2), to.port());
    client.connect(1, Protocol::Tcp, gateway).unwrap();
    assert!(matches!(next_answer(&mut client), Some((1, Outcome::Connected(_)))));
    client.connect(2, Protocol::Tcp, to).unwrap();
    assert!(matches!(next_answer(&mut client), Some((2, Outcome::Failed(Failure::Denied)))));
}

/// Each channel has its own rights: what one may ask is nothing to the others.
#[test]
fn channels_do_not_share_their_rights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let (_listener, to) = listener();
    let services = vec![
        egress(vec![loopback(Protocol::Tcp, to.port())]),
        egress(Vec::new()),
        Service::Socket { path: path.clone() },
    ];
    let mut broker = Broker::start(services);
    let [mut allowed, mut denied, mut back_end] = [(); 3].map(|()| broker.client());
    for (client, expected) in [(&mut allowed, true), (&mut denied, false), (&mut back_end, false)] {
        client.connect(1, Protocol::Tcp, to).unwrap();
        let connected = matches!(next_answer(client), Some((1, Outcome::Connected(_))));
        assert_eq!(connected, expected);
    }
    for client in [&mut allowed, &mut denied] {
        client.reconnect(2).unwrap();
        assert!(matches!(next_answer(client), Some((2, Outcome::Failed(Failure::Denied)))));
    }
    back_end.reconnect(2).unwrap();
    let Some((2, Outcome::Connected(socket))) = next_answer(&mut back_end) else { panic!() };
    let (mut accepted, _) = unix.accept().unwrap();
    UnixStream::from(socket).write_all(b"x").unwrap();
    assert_eq!(accepted.read(&mut [0]).unwrap(), 1);
    drop(unix);
    back_end.reconnect(3).unwrap();
    assert!(matches!(next_answer(&mut back_end), Some((3, Outcome::Failed(Failure::Refused)))));
    std::fs::remove_file(&path).unwrap();
    back_end.reconnect(4).unwrap();
    assert!(matches!(next_answer(&mut back_end), Some((4, Outcome::Failed(Failure::Refused)))));
}

/// A monitor that was taken over asks for everything, all the time, and never listens.
#[test]
fn a_flood_of_requests_gets_nothing_that_is_not_allowed() {
    let (allowed, to) = listener();
    allowed.set_nonblocking(true).unwrap();
    let (forbidden, elsewhere) = listener();
    forbidden.set_nonblocking(true).unwrap();
    let services = vec![
        egress(vec![loopback(Protocol::Tcp, to.port())]),
        egress(vec![loopback(Protocol::Tcp, to.port())]),
    ];
    let mut broker = Broker::start(services);
    let (mut hostile, mut friendly) = (broker.client(), broker.client());
    let (mut asked, mut unsent) = (0, 0);
    while unsent < 50 {
        let to = [to, elsewhere][asked % 2];
        match hostile.connect(asked as u32, Protocol::Tcp, to) {
            Ok(()) => asked += 1,
            Err(Unsent::Later) => {
                unsent += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(Unsent::Never) => panic!("the broker is gone"),
        }
        while allowed.accept().is_ok() {}
    }
    // Another guest's device is served all the same.
    friendly.connect(1, Protocol::Tcp, to).unwrap();
    assert!(matches!(next_answer(&mut friendly), Some((1, Outcome::Connected(_)))));
    assert!(forbidden.accept().is_err(), "nobody came");
    let open = std::fs::read_dir(format!("/proc/{}/fd", broker.pid)).unwrap().count();
    assert!(open < 600, "{open} descriptors");
    // What was asked is answered, once it is listened to, and truly.
    for _ in 0..asked {
        match next_answer(&mut hostile) {
            Some((id, Outcome::Failed(Failure::Denied))) => assert_eq!(id % 2, 1),
            Some((id, _)) => assert_eq!(id % 2, 0),
            None => panic!("the broker is gone"),
        }
        while allowed.accept().is_ok() {}
    }
}

/// Connections that hang take a number of places, and hold up nobody: not names, not other addresses.
#[test]
fn hanging_connections_hold_up_nobody() {
    // A listener whose queue is full answers no more.
    let full = nix_listener_with_full_queue();
    let (_listener, to) = listener();
    let rules = vec![loopback(Protocol::Tcp, full.1.port()), loopback(Protocol::Tcp, to.port())];
    let mut broker = Broker::start(vec![egress(rules)]);
    let mut client = broker.client();
    for id in 0..100 {
        client.connect(id, Protocol::Tcp, full.1).unwrap();
    }
    client.connect(1000, Protocol::Tcp, to).unwrap();
    loop {
        match next_answer(&mut client) {
            Some((1000, Outcome::Connected(_))) => break,
            Some((1000, outcome)) => panic!("{outcome:?}"),
            // A few may still have found room.
            Some((_, Outcome::Connected(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    // Beyond the bound there is an answer at once.
    for id in 2000..2100 {
        client.connect(id, Protocol::Tcp, full.1).unwrap();
    }
    until("too many are refused", || {
        matches!(next_answer(&mut client), Some((2000.., Outcome::Failed(Failure::Busy))))
    });
}

fn nix_listener_with_full_queue() -> (Vec<TcpStream>, SocketAddrV4, std::os::fd::OwnedFd) {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};
    use nix::sys::socket::{bind, getsockname, listen, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    listen(&made, Backlog::new(0).unwrap()).unwrap();
    let bound: SockaddrIn = getsockname(made.as_raw_fd()).unwrap();
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, bound.port());
    let soon = std::time::Duration::from_millis(200);
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address.into(), soon) {
        queued.push(stream);
        assert!(queued.len() < 1000);
    }
    (queued, address, made)
}

#[test]
fn what_is_no_request_closes_the_channel() {
    for garbage in [&b"x"[..], &[0xff; 16], &[9; MESSAGE_MAX], &[1, 99, 0, 0, 0, 0, 0, 0]] {
        let mut broker = Broker::start(vec![egress(Vec::new()), egress(Vec::new())]);
        let other = broker.channels.pop().unwrap();
        send(broker.channels[0].as_raw_fd(), garbage, MsgFlags::empty()).unwrap();
        let mut client = broker.client();
        assert!(next_answer(&mut client).is_none());
        // The other device's channel is not concerned.
        let mut other = denali_broker::Client::new(other);
        other.resolve(5, b"no question").unwrap();
        assert!(matches!(next_answer(&mut other), Some((5, Outcome::Failed(_)))));
    }
}

#[test]
fn it_ends_with_its_monitor() {
    let mut broker = Broker::start(vec![egress(Vec::new()), egress(Vec::new())]);
    let first = broker.client();
    drop(first);
    let mut second = broker.client();
    second.connect(1, Protocol::Tcp, "192.0.2.1:80".parse().unwrap()).unwrap();
    assert!(next_answer(&mut second).is_some(), "the other channel is still open");
    drop(second);
    broker.wait_for_its_end();
}

#[test]
fn it_is_filtered_and_without_privileges_and_has_its_channels_only() {
    let (listener, to) = listener();
    let mut broker = Broker::start(vec![egress(vec![loopback(Protocol::Tcp, to.port())])]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid)).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
    };
    assert_eq!((field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("2", "1"));
    assert_eq!(field("Threads:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    // One byte, which programs that get core dumps heed, unless even that is not to be had.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", broker.pid)).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let limit = most.min(1).to_string();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), [&limit, &limit, "bytes"]);
    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", broker.pid))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .map(|target| target.split('[').next().unwrap_or_default().to_owned())
        .collect();
    open.sort();
    let expected = ["/dev/null", "/dev/null", "/dev/null", "anon_inode:", "socket:"];
    assert_eq!(open, expected);
    // Nothing piles up.
    let mut client = broker.client();
    for id in 0..500 {
        client.connect(id, Protocol::Tcp, to).unwrap();
        assert!(matches!(next_answer(&mut client), Some((_, Outcome::Connected(_)))));
        listener.accept().unwrap();
    }
    let count = std::fs::read_dir(format!("/proc/{}/fd", broker.pid)).unwrap().count();
    assert_eq!(count, expected.len());
}

#[test]
fn requests_are_understood_whatever_their_number() {
    let mut broker = Broker::start(vec![egress(Vec::new())]);
    let mut buffer = [0; MESSAGE_MAX];
    let length = Request::Reconnect.encode(u32::MAX, &mut buffer);
    send(broker.channels[0].as_raw_fd(), &buffer[..length], MsgFlags::empty()).unwrap();
    let mut client = broker.client();
    assert!(matches!(next_answer(&mut client), Some((u32::MAX, Outcome::Failed(_)))));
}
