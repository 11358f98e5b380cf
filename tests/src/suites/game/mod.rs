//! The game server in a guest, played over real UDP through a published port, in good and bad weather.

mod line;
mod players;

use crate::backend::Backend;
use crate::guest::{Guest, Run, wait_until};
use crate::process;
use crate::registry::{Case, Suite};
use denali_game::{Closing, Command, HANDSHAKE_SIZE, Input, Refusal, Request, Stage};
use line::{Line, Weather};
use players::{Players, status};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub fn suite() -> Suite {
    Suite {
        name: "game",
        cases: vec![
            Case::each("several_players_see_the_same_world", several),
            Case::each("lost_repeated_and_late_datagrams_do_no_harm", bad_weather),
            Case::each("a_full_server_says_so", full),
            Case::each("hostile_datagrams_do_no_harm", hostile),
            Case::each("nobody_plays_and_nothing_happens", empty),
            Case::each("silent_players_are_dropped", silent),
            Case::each("players_are_told_when_it_stops", stopped),
            Case::each("arguments_that_cannot_be_are_refused", arguments),
            Case::each("a_guest_floods_until_it_is_stopped", flood),
        ],
    }
}

/// A run of the game guest, published on a free port of 127.0.0.1.
fn game(backend: Backend, arguments: &str) -> Run {
    let run = Run::new(backend, "game").option("--publish").option("0:27910/udp");
    run.option("--arg").option(arguments)
}

/// A server that serves, and where.
#[track_caller]
fn serve(backend: Backend, arguments: &str) -> (Guest, SocketAddr) {
    let guest = game(backend, arguments).start();
    let address = guest.address();
    guest.wait_for("ticks/s for up to");
    (guest, address)
}

fn several(backend: Backend) {
    let (_guest, server) = serve(backend, "tick=60");
    let mut players = Players::new(server, 8, Weather::default());
    players.play_until("everybody sees the world", |it| it.have_seen(100));
    assert_eq!(players.playing(), 8);
    assert!(players.shared > 100, "{}", players.shared);
    let mut numbers: Vec<_> = players.clients().filter_map(|it| it.number()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
    for client in players.clients() {
        let (_, world) = client.last().expect("it has seen some");
        assert!(numbers.iter().all(|&number| world.get(number).is_present()));
    }
    let status = status(server);
    assert_eq!((status.tick_hz, status.clients, status.joined), (60, 8, 8));
    assert!(status.ticks >= 100 && status.lateness.count() == status.ticks, "{status}");
    assert!(status.sent_bytes > status.sent && status.received > 8 * 50, "{status}");
}

fn bad_weather(backend: Backend) {
    let (_guest, server) = serve(backend, "tick=40");
    let weather = Weather { lost: 25, repeated: 20, delay_ms: 80 };
    let mut players = Players::new(server, 5, weather);
    players.play_until("everybody sees the world", |it| it.have_seen(80));
    assert!(players.shared > 0);
    let differences = players.clients().map(|it| it.counters().snapshots - it.counters().full);
    assert!(differences.sum::<u64>() > 100, "most are differences: {players}");
    assert!(players.clients().any(|it| it.counters().stale > 0), "the weather was bad");
}

fn full(backend: Backend) {
    let (_guest, server) = serve(backend, "clients=2");
    let mut players = Players::new(server, 3, Weather::default());
    let refused = Stage::Refused(Refusal::Full);
    players.play_until("one does not fit in", |it| it.at(refused) == 1 && it.playing() == 2);
    assert_eq!(status(server).clients, 2);
    players.leave();
    let mut others = Players::new(server, 2, Weather::default());
    others.play_until("others play in their place", |it| it.playing() == 2 && it.have_seen(5));
}

/// Numbers that look random.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    })
}

/// Requests as they should be, for others to be made from.
fn requests() -> Vec<Vec<u8>> {
    let commands = vec![Command { east: 1, ..Command::default() }; 8];
    let requests = [
        Request::Hello { nonce: 1 },
        Request::Join { nonce: 1, cookie: 2 },
        Request::Leave { token: 3 },
        Request::Input(Input { token: 4, has: Some(5), sequence: 9, commands }),
    ];
    let datagram = |request: &Request| {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        bytes
    };
    requests.iter().map(datagram).collect()
}

fn hostile(backend: Backend) {
    let (_guest, server) = serve(backend, "");
    let mut players = Players::new(server, 3, Weather::default());
    players.play_until("everybody plays", |it| it.have_seen(10));
    let mut noise = noise(7);
    let mut next = |end: usize| noise.next().map_or(0, |n| n as usize % end);
    let mut hostile = Line::open(server, Weather::default(), 1);
    let originals = requests();
    let (mut sent, mut answered) = (0, 0);
    for round in 1..=30 {
        for _ in 0..100 {
            let mut datagram = originals[next(originals.len())].clone();
            match next(4) {
                0 => datagram = (0..next(1600)).map(|_| next(256) as u8).collect(),
                1 => datagram.truncate(next(datagram.len())),
                2 => datagram.resize(next(1472), 0xff),
                _ => {
                    let place = next(datagram.len());
                    datagram[place] ^= 1 << next(8);
                }
            }
            sent += datagram.len();
            hostile.send(&datagram);
            let answers = hostile.exchange();
            assert!(answers.iter().all(|answer| answer.len() <= HANDSHAKE_SIZE));
            answered += answers.iter().map(Vec::len).sum::<usize>();
        }
        players.play_until("they play on", |it| it.have_seen(10 + 2 * round));
    }
    let status = status(server);
    assert_eq!((players.playing(), status.clients), (3, 3));
    assert!(status.bad > 1_000, "{status}");
    assert!(0 < answered && answered < sent, "{answered} bytes for {sent}");
}

fn empty(backend: Backend) {
    let (guest, server) = serve(backend, "");
    let mut players = Players::new(server, 2, Weather::default());
    players.play_until("everybody plays", |it| it.have_seen(20));
    players.leave();
    wait_until("nobody plays", || status(server).clients == 0);
    let before = status(server);
    let switches =
        || process::status(guest.pid(), "voluntary_ctxt_switches").parse::<u64>().unwrap();
    let start = switches();
    // Long enough for 60 ticks, if there were any.
    std::thread::sleep(Duration::from_secs(2));
    let slept = switches() - start;
    let after = status(server);
    assert_eq!(after.ticks, before.ticks, "no ticks without players");
    assert!(slept < 20, "the monitor woke up {slept} times");
    let mut again = Players::new(server, 2, Weather::default());
    again.play_until("others play", |it| it.have_seen(20));
}

fn silent(backend: Backend) {
    let (_guest, server) = serve(backend, "");
    let mut players = Players::new(server, 2, Weather::default());
    players.play_until("everybody plays", |it| it.have_seen(5));
    players.fall_silent();
    let (start, closed) = (Instant::now(), Stage::Closed(Closing::Silent));
    players.play_until("they are told that they are dropped", |it| it.at(closed) == 2);
    assert!(start.elapsed() > Duration::from_secs(5), "silence is borne for a while");
    let status = status(server);
    assert_eq!((status.clients, status.timed_out), (0, 2));
}

fn stopped(backend: Backend) {
    let (guest, server) = serve(backend, "");
    let mut players = Players::new(server, 4, Weather::default());
    players.play_until("everybody plays", |it| it.have_seen(10));
    guest.signal(libc::SIGTERM);
    let closed = Stage::Closed(Closing::Stopping);
    players.play_until("they are told", |it| it.at(closed) == 4);
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    for line in ["clients=0", "joined=4", "tick_late_us_p99=", "received_bytes="] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
}

fn arguments(backend: Backend) {
    let wrong = [
        ("tick=10", "from 20 to 60"),
        ("clients=65", "from 1 to 64"),
        ("port=0", "from 1 to 65535"),
        ("mode=play", "serve or flood"),
        ("colour=red", "colour=red is unknown"),
    ];
    for (argument, says) in wrong {
        let output = game(backend, argument).expect(1);
        assert!(output.contains(says), "{argument}: {output}");
    }
}

fn flood(backend: Backend) {
    let guest = game(backend, "mode=flood").start();
    guest.wait_for("flooding");
    guest.signal(libc::SIGTERM);
    let finished = guest.finish();
    assert_eq!(finished.status, 0, "{finished:#?}");
    let count = finished.stdout.lines().find_map(|line| line.strip_prefix("flooded="));
    assert!(count.is_some_and(|count| count != "0"), "{}", finished.stdout);
}
