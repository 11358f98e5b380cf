//! Datagrams of whoever: they never panic, never make the server remember, and never get more than they brought.

mod common;

use common::{MS, SECOND, Sent, peer, settings};
use denali_game::{
    Answer, Client, Command, HANDSHAKE_SIZE, Input, Peer, Received, Refusal, Request, Server, Stage,
};
use proptest::prelude::*;

fn datagram(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    bytes
}

/// What the server says to a request.
fn ask(server: &mut Server, now: u64, from: Peer, request: &Request) -> Option<Vec<u8>> {
    let mut out = Sent::default();
    server.receive(now, from, &datagram(request), &mut out);
    assert!(out.0.len() <= 1 && out.0.iter().all(|(to, _)| *to == from));
    out.0.pop().map(|(_, bytes)| bytes)
}

/// Joins as a client would; the token.
fn join(server: &mut Server, now: u64, from: Peer, nonce: u64) -> Result<u64, Refusal> {
    let challenge = ask(server, now, from, &Request::Hello { nonce }).expect("a challenge");
    let Some(Answer::Challenge { cookie, .. }) = Answer::decode(&challenge) else {
        panic!("no challenge");
    };
    let answer = ask(server, now, from, &Request::Join { nonce, cookie }).expect("an answer");
    match Answer::decode(&answer) {
        Some(Answer::Welcome { welcome, .. }) => Ok(welcome.token),
        Some(Answer::Refused { why, .. }) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn input(token: u64, sequence: u32) -> Request {
    Request::Input(Input { token, has: None, sequence, commands: vec![Command::default()] })
}

#[test]
fn nobody_joins_without_receiving_at_the_address() {
    let mut server = Server::new(settings());
    let (own, other) = (peer(1), peer(2));
    let challenge = ask(&mut server, SECOND, own, &Request::Hello { nonce: 1 }).unwrap();
    let Some(Answer::Challenge { cookie, .. }) = Answer::decode(&challenge) else { panic!() };
    for (from, nonce, cookie) in [(other, 1, cookie), (own, 2, cookie), (own, 1, cookie ^ 1)] {
        let answer = ask(&mut server, SECOND, from, &Request::Join { nonce, cookie }).unwrap();
        let why = Refusal::BadCookie;
        assert_eq!(Answer::decode(&answer), Some(Answer::Refused { nonce, why }));
    }
    assert_eq!((server.status().clients, server.status().bad), (0, 3));
    assert_eq!(server.due_ns(), None, "nothing is kept of who only said hello");
}

#[test]
fn a_lost_welcome_is_repeated() {
    let mut server = Server::new(settings());
    let token = join(&mut server, SECOND, peer(1), 5).unwrap();
    assert_eq!(join(&mut server, 2 * SECOND, peer(1), 5), Ok(token));
    assert_eq!((server.status().clients, server.status().joined), (1, 1));
}

#[test]
fn nobody_plays_or_leaves_for_another() {
    let mut server = Server::new(settings());
    let token = join(&mut server, SECOND, peer(1), 1).unwrap();
    for request in [input(token, 1), Request::Leave { token }] {
        assert_eq!(ask(&mut server, SECOND, peer(2), &request), None);
    }
    assert_eq!(ask(&mut server, SECOND, peer(1), &Request::Leave { token: token ^ 1 }), None);
    assert_eq!((server.status().bad, server.status().clients), (3, 1));
    assert_eq!(ask(&mut server, SECOND, peer(1), &Request::Leave { token }), None);
    assert_eq!((server.status().clients, server.due_ns()), (0, None));
}

#[test]
fn a_client_that_sends_too_much_harms_only_itself() {
    let mut server = Server::new(settings());
    let noisy = join(&mut server, SECOND, peer(1), 1).unwrap();
    let quiet = join(&mut server, SECOND, peer(2), 2).unwrap();
    for sequence in 1..=10_000 {
        let now = SECOND + u64::from(sequence) * MS / 10;
        ask(&mut server, now, peer(1), &input(noisy, sequence));
        if sequence % 300 == 0 {
            ask(&mut server, now, peer(2), &input(quiet, sequence));
        }
    }
    let status = server.status();
    // 120 per second and 32 at once are allowed; 10,000 came in a second.
    assert!((9_800..9_900).contains(&status.limited), "{status}");
    assert_eq!(status.bad, 0);
}

#[test]
fn answers_to_strangers_are_limited() {
    let mut server = Server::new(settings());
    let mut answered = [0, 0];
    for n in 0..10_000_u64 {
        let now = SECOND + n * MS / 10;
        let from = Peer { address: [10, 1, (n >> 8) as u8, n as u8], port: 9 };
        let hello = Request::Hello { nonce: n };
        for (count, request) in answered.iter_mut().zip([hello, Request::Status { nonce: n }]) {
            *count += usize::from(ask(&mut server, now, from, &request).is_some());
        }
    }
    assert!(
        (780..=820).contains(&answered[0]) && (180..=220).contains(&answered[1]),
        "{answered:?}"
    );
    assert_eq!(server.status().limited, 20_000 - (answered[0] + answered[1]) as u64);
}

#[test]
fn the_status_says_what_was_counted() {
    let mut server = Server::new(settings());
    join(&mut server, SECOND, peer(1), 1).unwrap();
    let mut out = Sent::default();
    (0..90).for_each(|n| _ = server.advance(SECOND + n * 34 * MS, &mut out));
    let answer = ask(&mut server, 5 * SECOND, peer(3), &Request::Status { nonce: 4 }).unwrap();
    let Some(Answer::Status { nonce: 4, status }) = Answer::decode(&answer) else { panic!() };
    assert_eq!((status.tick_hz, status.clients, status.clients_max), (30, 1, 32));
    assert_eq!((status.ticks, status.received), (server.status().ticks, 3));
    assert_eq!(status.sent, 2 + out.0.len() as u64, "the answer itself comes after");
    assert!(status.ticks > 80 && status.lateness.count() == status.ticks);
}

#[derive(Clone, Debug)]
enum Sends {
    Anything(Vec<u8>),
    Damaged(usize, Vec<(u16, u8)>, u16),
    Nothing,
}

fn sends() -> impl Strategy<Value = Sends> {
    let damage = prop::collection::vec(any::<(u16, u8)>(), 0..4);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1500).prop_map(Sends::Anything),
        (0_usize..5, damage, any::<u16>())
            .prop_map(|(of, where_, cut)| Sends::Damaged(of, where_, cut)),
        Just(Sends::Nothing),
    ]
}

fn damaged(mut bytes: Vec<u8>, damage: &[(u16, u8)], cut: u16) -> Vec<u8> {
    for &(position, value) in damage {
        let position = usize::from(position) % bytes.len();
        bytes[position] ^= value;
    }
    if cut.is_multiple_of(4) {
        bytes.truncate(usize::from(cut) % (bytes.len() + 1));
    }
    bytes
}

proptest! {
    #[test]
    fn no_datagram_harms_a_server_or_gets_more_than_it_brought(
        sent in prop::collection::vec((any::<bool>(), sends()), 0..100),
    ) {
        let mut server = Server::new(settings());
        let token = join(&mut server, SECOND, peer(1), 1).unwrap();
        let real = [
            datagram(&Request::Hello { nonce: 3 }),
            datagram(&Request::Join { nonce: 3, cookie: 4 }),
            datagram(&input(token, 9)),
            datagram(&Request::Status { nonce: 3 }),
            datagram(&Request::Leave { token: 7 }),
        ];
        let mut now = SECOND;
        for (known, what) in sent {
            now += 3 * MS;
            let bytes = match what {
                Sends::Anything(bytes) => bytes,
                Sends::Damaged(of, damage, cut) => damaged(real[of].clone(), &damage, cut),
                Sends::Nothing => Vec::new(),
            };
            let from = peer(if known { 1 } else { 2 });
            let mut out = Sent::default();
            server.receive(now, from, &bytes, &mut out);
            let answered: usize = out.0.iter().map(|(_, answer)| answer.len()).sum();
            prop_assert!(answered <= bytes.len(), "{} bytes for {}", answered, bytes.len());
            server.advance(now, &mut out);
            prop_assert!(server.status().clients <= 1);
        }
    }

    #[test]
    fn no_datagram_harms_a_client(
        sent in prop::collection::vec(sends(), 0..60), playing: bool,
    ) {
        let mut server = Server::new(settings());
        let mut client = Client::new(7);
        let mut now = SECOND;
        let mut real = Vec::new();
        let exchange = |client: &mut Client, server: &mut Server, now| {
            let mut out = Sent::default();
            if let Some(bytes) = client.frame(now, |_, _| Command::default()) {
                server.receive(now, peer(1), bytes, &mut out);
            }
            server.advance(now, &mut out);
            out.0.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
        };
        for _ in 0..if playing { 6 } else { 1 } {
            now += 40 * MS;
            for bytes in exchange(&mut client, &mut server, now) {
                client.receive(now, &bytes);
                real.push(bytes);
            }
        }
        prop_assert_eq!(matches!(client.stage(), Stage::Playing(_)), playing);
        for what in sent {
            now += 40 * MS;
            let bytes = match what {
                Sends::Anything(bytes) => bytes,
                Sends::Damaged(of, damage, cut) => damaged(real[of % real.len()].clone(), &damage, cut),
                Sends::Nothing => continue,
            };
            client.receive(now, &bytes);
            for bytes in exchange(&mut client, &mut server, now) {
                real.push(bytes);
            }
        }
    }
}

#[test]
fn an_answer_from_another_server_changes_nothing() {
    let mut client = Client::new(7);
    assert_eq!(
        client.frame(SECOND, |_, _| Command::default()).map(<[u8]>::len),
        Some(HANDSHAKE_SIZE)
    );
    assert!(client.frame(SECOND + MS, |_, _| Command::default()).is_none(), "not so soon again");
    let mut bytes = Vec::new();
    Answer::Challenge { nonce: 8, cookie: 1 }.encode(&mut bytes);
    assert_eq!(client.receive(SECOND, &bytes), Received::Nothing);
    assert_eq!((client.stage(), client.counters().bad), (Stage::Greeting, 1));
    Answer::Closed { nonce: 7, why: denali_game::Closing::Silent }.encode(&mut bytes);
    assert_eq!(client.receive(SECOND, &bytes), Received::Nothing);
    assert_eq!(client.stage(), Stage::Greeting);
}
