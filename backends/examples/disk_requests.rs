//! Measures a vhost-user disk, of this project or another, with a front end that does nothing else.
//!
//! `requests SOCKET [KIB [DEPTH [SECONDS]]]` reads so many KiB at random places, so many requests at a
//! time, and prints requests per second, MiB per second, and requests for each interrupt.

#[allow(dead_code, missing_docs, reason = "shared with the tests, which use all of it")]
#[path = "../tests/front_ends/driver.rs"]
mod driver;

use denali_abi::virtio::{BLOCK_REQUEST_IN, BLOCK_STATUS_OK};
use driver::{DATA, Driver, Listens, SIZE};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Socket(PathBuf);

impl Listens for Socket {
    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.0).expect("a back end listens there")
    }
}

/// Places that look random and are the same each time.
struct Places {
    state: u64,
    count: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.count
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let socket = Socket(words.next().expect("the path of a socket").into());
    let mut number =
        |default: u64| words.next().map_or(default, |word| word.parse().expect("a number"));
    let (kib, depth, seconds) = (number(4), number(32), number(5));
    let length = (kib as usize) << 10;
    assert!(length <= DATA && depth <= u64::from(SIZE / 3), "at most 64 KiB, and 42 at a time");

    let mut driver = Driver::new();
    let mut connection = driver.attach(&socket);
    let capacity = connection.config(8);
    let sectors = u64::from_le_bytes(capacity.try_into().expect("eight bytes"));
    let sectors_each = length as u64 / 512;
    let mut places = Places { state: 0x2545_f491_4f6c_dd1d, count: sectors / sectors_each };

    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let (mut done, mut waits) = (0u64, 0u64);
    for slot in 0..depth as u16 {
        driver.request(slot, BLOCK_REQUEST_IN, places.next() * sectors_each, length);
    }
    driver.ring_bell();
    while Instant::now() < until {
        waits += 1;
        for slot in driver.wait_some() {
            assert_eq!(driver.status(slot), BLOCK_STATUS_OK);
            done += 1;
            driver.request(slot, BLOCK_REQUEST_IN, places.next() * sectors_each, length);
        }
        driver.ring_bell();
    }
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    let mib = rate * length as f64 / f64::from(1 << 20);
    println!("{rate:.0} requests/s, {mib:.0} MiB/s, {:.1} a wait", done as f64 / waits as f64);
}
