//! Server and clients over a network that loses, repeats and reorders: what clients see is what was.

mod common;

use common::{Game, MS, SECOND, Weather};
use denali_game::{Closing, Stage};
use proptest::prelude::*;

#[test]
fn on_a_good_network_every_tick_reaches_everybody_as_a_difference() {
    let mut game = Game::new(8, Weather::default(), 1);
    game.pass(4_000);
    assert_eq!(game.playing(), 8);
    let ticks = game.server.status().ticks;
    for client in &game.clients {
        let seen = client.counters();
        assert!(seen.snapshots + 20 >= ticks, "{seen:?} of {ticks}");
        assert!(seen.full < 5 && seen.wrong == 0 && seen.stale == 0 && seen.bad == 0, "{seen:?}");
    }
    let scores = game.server.last().1.present().map(|(_, it)| u32::from(it.score)).sum::<u32>();
    let hurt = game.server.last().1.present().any(|(number, it)| number < 8 && it.health < 100);
    assert!(scores > 0 || hurt, "they play");
}

#[test]
fn an_input_is_known_by_the_tick_after_it() {
    let mut game = Game::new(4, Weather { delay_ms: 1, ..Weather::default() }, 5);
    game.pass(1_000);
    let mut count = 0;
    for client in &mut game.clients {
        for latency in client.latencies() {
            count += 1;
            // One ms each way, and at most one tick of 33.3 ms until the server's next.
            assert!((2 * MS..=36 * MS).contains(&latency.ns), "{latency:?}");
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn a_client_that_heard_nothing_for_long_gets_the_whole_state() {
    let mut game = Game::new(1, Weather::default(), 3);
    game.pass(1_000);
    let full = game.clients[0].counters().full;
    game.set_weather(Weather { lost: 100, ..Weather::default() });
    game.pass(2_000);
    game.set_weather(Weather::default());
    game.pass(500);
    let seen = game.clients[0].counters();
    assert!(seen.full > full && seen.wrong == 0, "{seen:?}");
    assert!(seen.snapshots > 35, "{seen:?}");
}

#[test]
fn silent_clients_are_dropped_and_an_empty_server_has_no_ticks() {
    let mut game = Game::new(3, Weather::default(), 3);
    assert_eq!(game.server.due_ns(), None);
    game.pass(1_000);
    assert!(game.server.due_ns().is_some());
    assert_eq!(game.server.status().clients, 3);
    game.clients.truncate(1);
    game.set_weather(Weather::default());
    // What is still on its way to those who are gone goes nowhere.
    let mut rest = Vec::new();
    for _ in 0..7_000 {
        game.now += MS;
        let mut out = common::Sent::default();
        game.server.advance(game.now, &mut out);
        rest.extend(out.0);
    }
    assert_eq!((game.server.status().clients, game.server.status().timed_out), (0, 3));
    assert_eq!(game.server.due_ns(), None);
    let ticks = game.server.status().ticks;
    assert!(!game.server.advance(game.now + SECOND, &mut common::Sent::default()));
    assert_eq!(game.server.status().ticks, ticks);
    let told = |(_, datagram): &(_, Vec<u8>)| {
        let answer = denali_game::Answer::decode(datagram);
        matches!(answer, Some(denali_game::Answer::Closed { why: Closing::Silent, .. }))
    };
    assert_eq!(rest.iter().filter(|it| told(it)).count(), 3);
}

#[test]
fn who_comes_back_plays_on() {
    let mut game = Game::new(2, Weather::default(), 3);
    game.pass(500);
    game.clients[0] = denali_game::Client::new(999);
    game.pass(1_000);
    assert_eq!(game.playing(), 2);
    assert_eq!((game.server.status().clients, game.server.status().joined), (2, 3));
    assert!(game.clients[0].counters().snapshots > 15);
}

#[test]
fn those_who_do_not_fit_in_are_told() {
    let mut game = Game::new(40, Weather::default(), 3);
    game.pass(2_000);
    let full = Stage::Refused(denali_game::Refusal::Full);
    assert_eq!(game.playing(), 32);
    assert_eq!(game.clients.iter().filter(|it| it.stage() == full).count(), 8);
}

#[test]
fn snapshots_of_many_entities_come_in_several_datagrams() {
    let settings = denali_game::Settings { clients: 64, ..common::settings() };
    let weather = Weather { lost: 20, repeated: 20, delay_ms: 60 };
    let mut game = Game::with(settings, 64, weather, 3);
    game.pass(5_000);
    assert_eq!(game.playing(), 64);
    assert!(game.parts > 1_000, "{}", game.parts);
    assert!(game.clients.iter().all(|it| it.counters().wrong == 0 && it.counters().snapshots > 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn in_any_weather_clients_know_the_servers_world(
        clients in 1_usize..12, lost in 0_u64..50, repeated in 0_u64..50, delay_ms in 1_u64..120, seed: u64,
    ) {
        let mut game = Game::new(clients, Weather { lost, repeated, delay_ms }, seed);
        game.pass(6_000);
        game.set_weather(Weather { delay_ms, ..Weather::default() });
        game.pass(3_000);
        prop_assert_eq!(game.playing(), clients);
        for client in &game.clients {
            prop_assert_eq!(client.counters().wrong, 0);
            prop_assert!(client.counters().snapshots > 10, "{:?}", client.counters());
        }
        // Every snapshot was compared with the world that the server had at its tick.
        let snapshots: u64 = game.clients.iter().map(|it| it.counters().snapshots).sum();
        prop_assert_eq!(game.compared, snapshots);
        for client in &mut game.clients {
            let sequences: Vec<u32> = client.latencies().map(|it| it.sequence).collect();
            prop_assert!(sequences.is_sorted_by(|one, next| one < next), "each command counts once");
        }
    }
}
