//! A server and its clients, and between them a network that loses, repeats and reorders.
#![allow(dead_code)]

use denali_game::{Bot, Client, Command, Outbox, Peer, Received, Server, Settings, Stage, State};
use std::collections::BTreeMap;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Per cent that are lost.
    pub lost: u64,
    /// Per cent that come twice.
    pub repeated: u64,
    /// Most ms that one is on its way; at least 1. What overtakes what is up to that.
    pub delay_ms: u64,
}

/// Datagrams on their way.
pub struct Network {
    weather: Weather,
    random: u64,
    /// By the time of arrival, and in what order they were sent.
    under_way: BTreeMap<(u64, u64), (bool, usize, Vec<u8>)>,
    count: u64,
}

impl Network {
    fn new(weather: Weather, seed: u64) -> Self {
        Self { weather, random: seed | 1, under_way: BTreeMap::new(), count: 0 }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % end
    }

    fn send(&mut self, now: u64, to_server: bool, client: usize, datagram: &[u8]) {
        assert!(datagram.len() <= denali_game::DATAGRAM_MAX);
        let copies = if self.below(100) < self.weather.repeated { 2 } else { 1 };
        for _ in 0..copies {
            if self.below(100) < self.weather.lost {
                continue;
            }
            let arrives = now + (1 + self.below(self.weather.delay_ms.max(1))) * MS;
            self.count += 1;
            self.under_way.insert((arrives, self.count), (to_server, client, datagram.to_vec()));
        }
    }

    fn next(&mut self, now: u64) -> Option<(bool, usize, Vec<u8>)> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// Gives what the server sends to the network.
struct Towards<'a> {
    network: &'a mut Network,
    now: u64,
}

impl Outbox for Towards<'_> {
    fn send(&mut self, to: Peer, datagram: &[u8]) {
        self.network.send(self.now, false, usize::from(to.port), datagram);
    }
}

/// Everybody.
pub struct Game {
    pub now: u64,
    pub server: Server,
    pub clients: Vec<Client>,
    bots: Vec<Bot>,
    pub network: Network,
    /// The server's worlds.
    pub worlds: BTreeMap<u32, State>,
    /// Snapshots that were compared with them.
    pub compared: u64,
    /// Parts that came before the last of their snapshot.
    pub parts: u64,
}

pub fn peer(client: usize) -> Peer {
    Peer { address: [10, 0, 0, 1], port: client as u16 }
}

pub fn settings() -> Settings {
    Settings { tick_hz: 30, clients: 32, patience_ns: 5 * SECOND, secret: [0x1234, 0x5678] }
}

impl Game {
    pub fn new(clients: usize, weather: Weather, seed: u64) -> Self {
        Self::with(settings(), clients, weather, seed)
    }

    pub fn with(settings: Settings, clients: usize, weather: Weather, seed: u64) -> Self {
        Self {
            now: 77 * SECOND,
            server: Server::new(settings),
            clients: (0..clients as u64).map(|n| Client::new(seed ^ (n << 32 | n))).collect(),
            bots: (0..clients as u64).map(|n| Bot::new(seed + n)).collect(),
            network: Network::new(weather, seed),
            worlds: BTreeMap::new(),
            compared: 0,
            parts: 0,
        }
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.network.weather = weather;
    }

    /// Lets `ms` pass, in each of which everybody does what there is to do.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += MS;
            self.deliver();
            let mut out = Towards { network: &mut self.network, now: self.now };
            if self.server.advance(self.now, &mut out) {
                let (tick, world) = self.server.last();
                self.worlds.insert(tick, world.clone());
            }
            self.frames();
        }
    }

    fn deliver(&mut self) {
        while let Some((to_server, client, datagram)) = self.network.next(self.now) {
            if to_server {
                let mut out = Towards { network: &mut self.network, now: self.now };
                self.server.receive(self.now, peer(client), &datagram, &mut out);
                continue;
            }
            let received = self.clients[client].receive(self.now, &datagram);
            self.parts += u64::from(received == Received::Part);
            if let Received::Snapshot { tick } = received {
                let known = self.clients[client].last().expect("it has just come");
                assert_eq!(known.0, tick);
                assert_eq!(known.1, &self.worlds[&tick], "client {client} at tick {tick}");
                self.compared += 1;
            }
        }
    }

    /// Every client has a frame every 33 ms, each at its own time.
    fn frames(&mut self) {
        for (number, (client, bot)) in self.clients.iter_mut().zip(&mut self.bots).enumerate() {
            if (self.now / MS + number as u64 * 7).is_multiple_of(33) {
                let wish = |state: &State, own| -> Command { bot.wish(state, own) };
                if let Some(datagram) = client.frame(self.now, wish) {
                    self.network.send(self.now, true, number, datagram);
                }
            }
        }
    }

    pub fn playing(&self) -> usize {
        self.clients.iter().filter(|it| matches!(it.stage(), Stage::Playing(_))).count()
    }
}

/// Keeps what a server sends.
#[derive(Default)]
pub struct Sent(pub Vec<(Peer, Vec<u8>)>);

impl Outbox for Sent {
    fn send(&mut self, to: Peer, datagram: &[u8]) {
        self.0.push((to, datagram.to_vec()));
    }
}
