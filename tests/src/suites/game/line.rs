//! A player's line to the server: a socket, and on the way to it and from it loss, repetition and delay.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What happens to datagrams on a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Per cent that are lost.
    pub lost: u64,
    /// Per cent that come twice.
    pub repeated: u64,
    /// Most ms that one is held back, so that later ones overtake it.
    pub delay_ms: u64,
}

/// A line.
#[derive(Debug)]
pub struct Line {
    socket: UdpSocket,
    to_server: Way,
    to_player: Way,
}

/// One direction of a line.
#[derive(Debug)]
struct Way {
    weather: Weather,
    random: u64,
    /// What is held back, by when it goes on and in what order it came.
    held: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
}

impl Line {
    pub fn open(server: SocketAddr, weather: Weather, seed: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        socket.connect(server).expect("the server has an address");
        socket.set_nonblocking(true).expect("sockets need not block");
        let way = |random| Way { weather, random, held: BTreeMap::new(), count: 0 };
        Self { socket, to_server: way(2 * seed + 1), to_player: way(!(2 * seed)) }
    }

    /// Sends a datagram, by the weather.
    pub fn send(&mut self, datagram: &[u8]) {
        self.to_server.add(datagram);
    }

    /// Sends what was held back, and gives what has arrived.
    pub fn exchange(&mut self) -> Vec<Vec<u8>> {
        for datagram in self.to_server.due() {
            // What cannot be sent is lost.
            let _ = self.socket.send(&datagram);
        }
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.to_player.add(&buffer[..len]),
                // Nothing more is there, or the server's port is gone.
                Err(error) => {
                    let kinds = [ErrorKind::WouldBlock, ErrorKind::ConnectionRefused];
                    assert!(kinds.contains(&error.kind()), "cannot receive: {error}");
                    return self.to_player.due();
                }
            }
        }
    }
}

impl Way {
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % end
    }

    fn add(&mut self, datagram: &[u8]) {
        let copies = if self.below(100) < self.weather.repeated { 2 } else { 1 };
        for _ in 0..copies {
            if self.below(100) < self.weather.lost {
                continue;
            }
            let delay = Duration::from_millis(self.below(self.weather.delay_ms + 1));
            self.count += 1;
            self.held.insert((Instant::now() + delay, self.count), datagram.to_vec());
        }
    }

    fn due(&mut self) -> Vec<Vec<u8>> {
        let later = self.held.split_off(&(Instant::now(), u64::MAX));
        std::mem::replace(&mut self.held, later).into_values().collect()
    }
}
