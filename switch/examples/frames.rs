//! How many frames a second the switch carries: from one guest to another, there and back, and from and to the host.
//!
//! ```text
//! cargo build --release -p denali-switch
//! cargo run --release -p denali-switch --example frames -- target/release/denali-switch
//! ```
//!
//! As root it measures the uplink too, in a network namespace of its own.

use denali_switch::protocol::{Ask, Port, VERSION};
use denali_switch::{Client, Options, Policy, client, tun};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(3);
const SWITCH: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [10, 99, 0, 1]);

type Failure = Box<dyn Error>;

fn guest(number: u8) -> ([u8; 6], [u8; 4]) {
    ([2, 0, 1, 0, 0, number], [10, 99, 0, 10 + number])
}

fn main() -> Result<(), Failure> {
    let program = PathBuf::from(std::env::args().nth(1).ok_or("name the switch's program")?);
    let options = Options { policy: Policy::Open, ..Options::new(SWITCH.1.into(), 16, SWITCH.0) };
    // SAFETY: moves this thread, and those it makes, into a new namespace.
    let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    let uplink = if alone { Some(tun::open("uplink", &options)?) } else { None };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("switch");
    let control = client::control_socket(&path)?;
    let mut process = client::start(&program, &control, uplink.as_ref(), &options)?;
    let done = measure(&Switch { path, process: process.id() }, alone);
    process.kill()?;
    process.wait()?;
    done
}

struct Switch {
    path: PathBuf,
    process: u32,
}

impl Switch {
    /// Processor time that it has used.
    fn used(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process));
        let first = text.ok().and_then(|text| text.split(' ').next()?.parse().ok());
        Duration::from_nanos(first.unwrap_or(0))
    }

    /// Counts what arrives, and says how many it was and what each has cost the switch.
    fn report(&self, what: &str, count: impl FnOnce() -> u64) {
        let before = self.used();
        let count = count();
        let rate = count as f64 / SPAN.as_secs_f64();
        let each = (self.used() - before).as_nanos() / u128::from(count.max(1));
        println!("{what}: {rate:.0} a second, {each} ns of the switch each");
    }
}

fn measure(switch: &Switch, with_host: bool) -> Result<(), Failure> {
    let mut client = Client::connect(&switch.path)?;
    client.ask(&Ask::Hello { version: VERSION }, None)?;
    client.receive()?;
    let port = |number: u8| {
        let (mac, address) = guest(number);
        let (number, address) = (number.into(), Ipv4Addr::from(address));
        Port { number, address, mac, group: 0, wakes: Vec::new(), rate: 0 }
    };
    client.set(&[port(0), port(1)])?;
    let [a, b] = [connect(&client, 0)?, connect(&client, 1)?];
    for payload in [18, 1472] {
        let frame = datagram(guest(0), guest(1), payload);
        switch.report(&format!("guest to guest, packets of {} bytes", payload + 28), || {
            stream(&a, &frame, |stop, count| receive(&b, stop, count))
        });
    }
    let there = datagram(guest(0), guest(1), 18);
    let back = datagram(guest(1), guest(0), 18);
    let (start, mut rounds) = (Instant::now(), 0_u32);
    let mut buffer = [0; 2000];
    while start.elapsed() < SPAN {
        for (from, to, frame) in [(&a, &b, &there), (&b, &a, &back)] {
            nix::unistd::write(from, frame)?;
            nix::unistd::read(to, &mut buffer)?;
        }
        rounds += 1;
    }
    println!("there and back: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    if with_host {
        measure_host(switch, &a)?;
    }
    Ok(())
}

fn measure_host(switch: &Switch, a: &OwnedFd) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::from(SWITCH.1), 9))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    for payload in [18, 1472] {
        let frame = datagram(guest(0), SWITCH, payload);
        switch.report(&format!("guest to host, packets of {} bytes", payload + 28), || {
            stream(a, &frame, |stop, count| {
                let mut buffer = [0; 2000];
                while !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        switch.report(&format!("host to guest, packets of {} bytes", payload + 28), || {
            from_host(&socket, a, payload)
        });
    }
    Ok(())
}

/// Sends datagrams from the host to a guest; how many arrived.
fn from_host(socket: &UdpSocket, a: &OwnedFd, payload: usize) -> u64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| receive(a, &stop, &count));
        let start = Instant::now();
        let data = vec![7; payload];
        while start.elapsed() < SPAN {
            // What the host has no room for is lost.
            let _ = socket.send_to(&data, (Ipv4Addr::from(guest(0).1), 9));
        }
        stop.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

fn connect(client: &Client, number: u8) -> Result<OwnedFd, Failure> {
    let kind = SockType::SeqPacket;
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    let timeout = nix::sys::time::TimeVal::new(0, 50_000);
    nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
    client.ask(&Ask::Connect { port: number.into() }, Some(theirs.as_fd()))?;
    Ok(ours)
}

/// Sends a message again and again while somebody receives; how many arrived.
fn stream(
    from: &OwnedFd,
    message: &[u8],
    receive: impl FnOnce(&AtomicBool, &AtomicU64) + Send,
) -> u64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&stop, &count));
        let start = Instant::now();
        while start.elapsed() < SPAN {
            for _ in 0..64 {
                // A switch that is gone is seen by what does not arrive.
                let _ = nix::unistd::write(from, message);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

fn receive(at: &OwnedFd, stop: &AtomicBool, count: &AtomicU64) {
    let mut buffer = [0; 2000];
    while !stop.load(Ordering::Relaxed) {
        if nix::unistd::read(at, &mut buffer).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A message with a datagram between ports 9, without checksum.
fn datagram(from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4]), payload: usize) -> Vec<u8> {
    let mut bytes = [&[0; 12][..], &to.0, &from.0, &[8, 0, 0x45, 0]].concat();
    bytes.extend((28 + payload as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    bytes.extend(from.1);
    bytes.extend(to.1);
    let words = bytes[26..46].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
    let sum = words.sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[36..38].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([0, 9, 0, 9]);
    bytes.extend((8 + payload as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.resize(bytes.len() + payload, 7);
    bytes
}
