//! Measures what the gateway costs per request: an echo guest that costs next to nothing, real host
//! sockets, one request of 100 bytes and one answer of 300 per round and connection.
//!
//! `cargo run --release -p denali-usernet --example requests -- [connections] [rounds]`
//!
//! The client writes to all connections, then the gateway carries everything, then the client reads
//! all answers; only the gateway's share is timed, and the system calls in it are timed apart, so that
//! the rest is what TCP and the gateway cost.

use denali_usernet::{Config, Gateway};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: usize = 100;
const ANSWER: usize = 300;
const GUEST: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 15], Ipv4Addr::new(10, 0, 2, 15));
const GATEWAY: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 2], Ipv4Addr::new(10, 0, 2, 2));

/// Answers every segment of a gateway like a TCP of few words; it keeps no state at all.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = frame[47];
    let data = frame.len() - 34 - usize::from(frame[46] >> 4) * 4;
    let number =
        |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (syn, payload) = (flags & 2 != 0, if data > 0 { ANSWER } else { 0 });
    if !syn && data == 0 {
        return None;
    }
    let mut back = Vec::with_capacity(54 + payload);
    back.extend(GATEWAY.0.iter().chain(&GUEST.0).chain(&[8, 0, 0x45, 0]));
    back.extend((40 + payload as u16).to_be_bytes());
    back.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    back.extend(GUEST.1.octets().iter().chain(&GATEWAY.1.octets()));
    back.extend([frame[36], frame[37], frame[34], frame[35]]);
    let sequence = if syn { 1 } else { number(42) };
    back.extend(sequence.to_be_bytes());
    back.extend((number(38) + data as u32 + u32::from(syn)).to_be_bytes());
    back.extend([0x50, if syn { 0x12 } else { 0x18 }, 0xff, 0xff, 0, 0, 0, 0]);
    back.resize(54 + payload, b'x');
    Some(back)
}

struct Bench {
    gateway: Gateway,
    start: Instant,
    answers: Vec<Vec<u8>>,
    spent: Duration,
    polls: u64,
}

impl Bench {
    /// One service: the guest's frames in, a poll, and the gateway's frames out.
    fn service(&mut self) -> bool {
        let before = cpu_time();
        self.gateway.begin(self.start.elapsed().as_nanos() as u64 + 1);
        for frame in self.answers.drain(..) {
            self.gateway.transmit(&frame);
        }
        self.gateway.poll();
        self.spent += cpu_time() - before;
        self.polls += 1;
        while let Some(frame) = self.gateway.next_frame() {
            self.answers.extend(answer(frame));
            self.gateway.consume();
        }
        !self.answers.is_empty()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let connections: usize = arguments.next().unwrap_or(64);
    let rounds: usize = arguments.next().unwrap_or(5000);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let config = Config::new(GUEST, GATEWAY, 24);
    let gateway = Gateway::new(config, vec![(listener, 80)]).expect("a gateway");
    let start = Instant::now();
    let mut bench = Bench { gateway, start, answers: Vec::new(), spent: Duration::ZERO, polls: 0 };
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(TcpStream::connect(address).expect("a connection"));
        while bench.service() {}
    }
    (bench.spent, bench.polls) = (Duration::ZERO, 0);
    let mut buffer = [0; ANSWER];
    for _ in 0..rounds {
        for client in &mut clients {
            client.write_all(&[b'r'; REQUEST]).expect("a request");
        }
        while bench.service() {}
        for client in &mut clients {
            client.read_exact(&mut buffer).expect("an answer");
        }
    }
    let requests = (rounds * connections) as f64;
    let total = bench.spent.as_nanos() as f64 / requests;
    let calls = system_calls_ns(connections, rounds);
    println!("connections {connections}, requests {requests}");
    println!("gateway, with system calls: {total:.0} ns/request");
    println!("read + write alone:         {calls:.0} ns");
    println!("gateway without them:       {:.0} ns/request", total - calls);
    println!("polls per request:          {:.3}", bench.polls as f64 / requests);
}

/// CPU time of this thread: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a `timespec` that outlives the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "the clock of threads is always there");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What reading each request and writing each answer cost on plain sockets, in the same pattern.
fn system_calls_ns(connections: usize, rounds: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut pairs = Vec::new();
    for _ in 0..connections {
        let client = TcpStream::connect(address).expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        server.set_nodelay(true).expect("no delay");
        pairs.push((client, server));
    }
    let mut spent = Duration::ZERO;
    let mut buffer = vec![0; 65_536];
    for _ in 0..rounds {
        for (client, _) in &mut pairs {
            client.write_all(&[b'r'; REQUEST]).expect("a request");
        }
        let before = cpu_time();
        for (_, server) in &mut pairs {
            let _ = server.read(&mut buffer).expect("the request");
            server.write_all(&[b'x'; ANSWER]).expect("an answer");
        }
        spent += cpu_time() - before;
        for (client, _) in &mut pairs {
            client.read_exact(&mut buffer[..ANSWER]).expect("the answer");
        }
    }
    spent.as_nanos() as f64 / (rounds * connections) as f64
}
