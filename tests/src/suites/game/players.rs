//! Players of a server in a guest: the clients that bots play with, each on a line of its own.

use super::line::{Line, Weather};
use crate::guest::PATIENCE;
use denali_game::{Answer, Bot, Client, Received, Request, Stage, Status};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How often players have wishes.
const FRAME: Duration = Duration::from_millis(25);

/// Some players.
pub struct Players {
    start: Instant,
    /// When everybody has the next wish; never, if they are silent.
    next_frame: Option<Instant>,
    players: Vec<(Line, Client, Bot)>,
    /// Digests of the worlds that the players saw, by tick.
    worlds: HashMap<u32, u32>,
    /// How often several saw the same tick.
    pub shared: u64,
}

impl Players {
    /// Players who have not said anything.
    pub fn new(server: SocketAddr, count: u64, weather: Weather) -> Self {
        let player = |n: u64| {
            let nonce = (u64::from(std::process::id()) << 32) | (n + 1);
            (Line::open(server, weather, n + 1), Client::new(nonce), Bot::new(n))
        };
        let start = Instant::now();
        Self {
            start,
            next_frame: Some(start),
            players: (0..count).map(player).collect(),
            worlds: HashMap::new(),
            shared: 0,
        }
    }

    /// The players' clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.players.iter().map(|(_, client, _)| client)
    }

    /// How many play.
    pub fn playing(&self) -> usize {
        self.clients().filter(|it| matches!(it.stage(), Stage::Playing(_))).count()
    }

    /// How many are at this stage.
    pub fn at(&self, stage: Stage) -> usize {
        self.clients().filter(|it| it.stage() == stage).count()
    }

    /// Whether each player has seen so many snapshots.
    pub fn have_seen(&self, snapshots: u64) -> bool {
        self.clients().all(|it| it.counters().snapshots >= snapshots)
    }

    /// Plays until something is so. Nobody ever sees a world that is not the server's.
    #[track_caller]
    pub fn play_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}: {self}");
            self.step();
        }
    }

    /// Nobody sends anything from here on.
    pub fn fall_silent(&mut self) {
        self.next_frame = None;
    }

    /// Everybody leaves, and says so.
    pub fn leave(mut self) {
        for (line, client, _) in &mut self.players {
            if let Some(datagram) = client.leave() {
                line.send(datagram);
                line.exchange();
            }
        }
    }

    fn step(&mut self) {
        let now_ns = self.start.elapsed().as_nanos() as u64;
        for index in 0..self.players.len() {
            let (line, client, _) = &mut self.players[index];
            for datagram in line.exchange() {
                if let Received::Snapshot { tick } = client.receive(now_ns, &datagram) {
                    let digest = client.last().expect("it has just come").1.digest();
                    match self.worlds.insert(tick, digest) {
                        Some(other) => {
                            assert_eq!(other, digest, "two players see one tick differently");
                            self.shared += 1;
                        }
                        None => assert!(tick > 0, "there is no tick 0"),
                    }
                }
            }
            assert_eq!(client.counters().wrong, 0, "player {index}");
        }
        if let Some(next) = self.next_frame.filter(|&next| next <= Instant::now()) {
            self.next_frame = Some(next + FRAME);
            for (line, client, bot) in &mut self.players {
                if let Some(datagram) = client.frame(now_ns, |state, own| bot.wish(state, own)) {
                    line.send(datagram);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl std::fmt::Display for Players {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for client in self.clients() {
            write!(f, "\n{:?} {:?}", client.stage(), client.counters())?;
        }
        Ok(())
    }
}

/// What the server says of itself.
#[track_caller]
pub fn status(server: SocketAddr) -> Status {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout can be set");
    let (mut request, mut buffer) = (Vec::new(), [0; 2048]);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        Request::Status { nonce: 1 }.encode(&mut request);
        socket.send_to(&request, server).expect("the server can be asked");
        if let Ok(len) = socket.recv(&mut buffer)
            && let Some(Answer::Status { nonce: 1, status }) = Answer::decode(&buffer[..len])
        {
            return *status;
        }
    }
    panic!("the server does not answer");
}
