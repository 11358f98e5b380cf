//! Names: which may be asked for, what their answers allow, and what resolvers can do about it.

mod common;

use common::{Broker, Outcome, next_answer};
use denali_broker::{Client, Failure, Policy, Protocol, Rule, Service, Target};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

const REFUSED: u8 = 5;
const FAILED: u8 = 2;
const A: u16 = 1;
const AAAA: u16 = 28;

/// A broker that lets UDP to port 4242 of `example.com` and what is below `example.org`.
fn broker(resolvers: Vec<SocketAddr>) -> (Broker, Client) {
    let to = |target| Rule { target, ports: vec![(4242, 4242)], protocol: Protocol::Udp };
    let rules =
        vec![to(Target::Name("example.com".into())), to(Target::Below("example.org".into()))];
    let [address, gateway] = [15, 2].map(|last| Ipv4Addr::new(10, 0, 2, last));
    let policy = Policy { rules, address, prefix_len: 24, gateway };
    let mut broker = Broker::start(vec![Service::Egress { policy, resolvers }]);
    let client = broker.client();
    (broker, client)
}

/// A resolver that answers each question with what `answer` makes of it; the last question ends it.
fn resolver(
    count: usize,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<()>) {
    resolver_at(UdpSocket::bind("127.0.0.1:0").unwrap(), count, answer)
}

fn resolver_at(
    socket: UdpSocket,
    count: usize,
    answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<()>) {
    let address = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        for _ in 0..count {
            let mut buffer = [0; 600];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            for message in answer(&buffer[..length]) {
                socket.send_to(&message, from).unwrap();
            }
        }
    });
    (address, thread)
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// The answer to a question: these addresses.
fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2] |= 0x80;
    message[7] = addresses.len() as u8;
    for address in addresses {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4]);
        message.extend(address.octets());
    }
    message
}

#[track_caller]
fn ask(client: &mut Client, message: &[u8]) -> Vec<u8> {
    client.resolve(7, message).unwrap();
    match next_answer(client) {
        Some((7, Outcome::Resolved(message))) => message,
        other => panic!("{other:?}"),
    }
}

/// Whether a rule lets datagrams go there; whether there is a way is another matter.
#[track_caller]
fn may_send(client: &mut Client, to: Ipv4Addr, port: u16) -> bool {
    client.connect(8, Protocol::Udp, SocketAddrV4::new(to, port)).unwrap();
    match next_answer(client) {
        Some((8, Outcome::Failed(Failure::Denied))) => false,
        Some((8, _)) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_allowed_name_opens_the_way_to_its_address_and_port() {
    let (address, thread) = resolver(2, |question| vec![answer(question, &[PUBLIC])]);
    let (_broker, mut client) = broker(vec![address]);
    assert!(!may_send(&mut client, PUBLIC, 4242), "nobody has asked yet");
    let answered = ask(&mut client, &question("Example.Com", A));
    assert_eq!((&answered[..2], answered[7]), (&[0xab, 0xcd][..], 1));
    assert_eq!(answered[answered.len() - 4..], PUBLIC.octets());
    assert!(may_send(&mut client, PUBLIC, 4242));
    assert!(!may_send(&mut client, PUBLIC, 4243));
    assert!(!may_send(&mut client, Ipv4Addr::new(203, 0, 113, 8), 4242));
    ask(&mut client, &question("a.b.example.org", A));
    thread.join().unwrap();
}

#[test]
fn other_names_are_not_even_asked_for() {
    let (address, thread) = resolver(1, |question| vec![answer(question, &[PUBLIC])]);
    let (_broker, mut client) = broker(vec![address]);
    for name in ["example.net", "www.example.com", "example.org", "com", "xexample.org"] {
        let answered = ask(&mut client, &question(name, A));
        assert_eq!((answered[3] & 0xf, answered[7]), (REFUSED, 0), "{name}");
        assert_eq!(answered[12..], question(name, A)[12..]);
    }
    // No other kind of question leaves, either: it is answered as empty.
    let answered = ask(&mut client, &question("example.com", AAAA));
    assert_eq!((answered[3] & 0xf, answered[7]), (0, 0));
    let answered = ask(&mut client, &question("example.com", 16));
    assert_eq!((answered[3] & 0xf, answered[7]), (0, 0));
    assert!(!may_send(&mut client, PUBLIC, 4242));
    // The resolver has seen the one question that it waits for, and none before.
    ask(&mut client, &question("example.com", A));
    thread.join().unwrap();
}

#[test]
fn what_is_no_question_is_not_forwarded() {
    let (_broker, mut client) = broker(vec!["127.0.0.1:9".parse().unwrap()]);
    let good = question("example.com", A);
    let mut two = good.clone();
    two[5] = 2;
    let mut response = good.clone();
    response[2] |= 0x80;
    let dotted = question("example.com", A).into_iter();
    let dotted: Vec<u8> = dotted.enumerate().map(|(n, b)| if n == 15 { b'.' } else { b }).collect();
    for message in [&b""[..], &good[..11], &two, &response, &dotted, &[0xff; 512]] {
        client.resolve(1, message).unwrap();
        assert!(matches!(next_answer(&mut client), Some((1, Outcome::Failed(_)))), "{message:x?}");
    }
    assert!(client.resolve(1, &[0; 513]).is_err());
}

/// An allowed name whose owner points it at the inside.
#[test]
fn names_do_not_open_the_way_to_private_addresses() {
    let inside = [
        [127, 0, 0, 1],
        [10, 0, 2, 2],
        [10, 0, 2, 3],
        [10, 1, 1, 1],
        [172, 16, 0, 1],
        [192, 168, 1, 1],
        [169, 254, 169, 254],
        [100, 64, 0, 1],
        [0, 0, 0, 0],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
    ];
    let addresses = inside.map(Ipv4Addr::from);
    let (address, thread) = resolver(1, move |question| vec![answer(question, &addresses)]);
    let (_broker, mut client) = broker(vec![address]);
    let answered = ask(&mut client, &question("example.com", A));
    assert_eq!(usize::from(answered[7]), inside.len());
    for address in inside {
        assert!(!may_send(&mut client, address.into(), 4242), "{address:?}");
    }
    thread.join().unwrap();
}

#[test]
fn forged_answers_are_passed_over() {
    let (address, thread) = resolver(1, |asked| {
        let evil = Ipv4Addr::new(203, 0, 113, 66);
        let mut number = answer(asked, &[evil]);
        number[0] ^= 1;
        let mut other = question("example.net", A);
        other[..2].copy_from_slice(&asked[..2]);
        let mut asking = answer(asked, &[evil]);
        asking[2] &= 0x7f;
        let cut = answer(asked, &[evil])[..40].to_vec();
        vec![number, answer(&other, &[evil]), asking, cut, vec![], answer(asked, &[PUBLIC])]
    });
    let (_broker, mut client) = broker(vec![address]);
    let answered = ask(&mut client, &question("example.com", A));
    assert_eq!(answered[answered.len() - 4..], PUBLIC.octets());
    assert!(!may_send(&mut client, Ipv4Addr::new(203, 0, 113, 66), 4242));
    thread.join().unwrap();
}

#[test]
fn a_resolver_that_is_silent_or_gone_is_followed_by_the_next() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, thread) = resolver(1, |question| vec![answer(question, &[PUBLIC])]);
    let (_broker, mut client) = broker(vec![gone, silent.local_addr().unwrap(), address]);
    let answered = ask(&mut client, &question("example.com", A));
    assert_eq!(answered[7], 1);
    thread.join().unwrap();

    let (_broker, mut client) = broker(vec![gone]);
    let answered = ask(&mut client, &question("example.com", A));
    assert_eq!((answered[3] & 0xf, answered[7]), (FAILED, 0));
}

#[test]
fn a_resolver_may_have_an_ipv6_address() {
    // On a host without one there is nothing to be asked there.
    let Ok(socket) = UdpSocket::bind("[::1]:0") else { return };
    let (address, thread) = resolver_at(socket, 1, |question| vec![answer(question, &[PUBLIC])]);
    let (_broker, mut client) = broker(vec![address]);
    assert_eq!(ask(&mut client, &question("example.com", A))[7], 1);
    thread.join().unwrap();
}
