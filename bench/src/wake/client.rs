//! The client: it lets a server sleep, wakes it by a byte, and takes the times of everything.

use super::guests::pins;
use super::ticks::{self, Rate};
use anyhow::{Context, Result, bail};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a server is left alone before each event, in µs: at random from the first to the second.
const ALONE_US: (u64, u64) = (5_000, 50_000);

/// Bytes of an answer: two readings of the time-stamp counter.
const ANSWER: usize = 16;

/// What one event led to, in µs since the byte was given to the host's kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// The server ran first; `None` if it was running already.
    pub(super) ran: Option<f64>,
    /// The server's program had the byte in its hands; `None` if its clock is another.
    pub(super) heard: Option<f64>,
    /// The answer was there.
    pub(super) answered: f64,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    rate: Rate,
    random: u64,
    /// The client waits by looking: it has a processor of its own.
    spins: bool,
}

impl Client {
    pub(super) fn connect(address: SocketAddr, rate: Rate) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set up a connection")?;
        let spins = pins();
        if spins {
            stream.set_nonblocking(true).context("cannot set up a connection")?;
        } else {
            stream.set_read_timeout(Some(PATIENCE)).context("cannot set up a connection")?;
        }
        Ok(Self { stream, rate, random: RandomState::new().hash_one(0) | 1, spins })
    }

    /// Leaves the server alone for a while, and then sends it a byte.
    pub(super) fn exchange(&mut self) -> Result<Exchange> {
        sleep(self.pause());
        let sent = ticks::now();
        self.stream.write_all(&[1]).context("cannot send")?;
        let mut answer = [0; ANSWER];
        self.receive(&mut answer)?;
        let answered = ticks::now();
        let time = |bytes: &[u8]| {
            let at = bytes.try_into().map_or(0, u64::from_le_bytes);
            (at <= answered).then(|| self.rate.between(sent, at)).flatten()
        };
        Ok(Exchange {
            ran: time(&answer[..8]),
            heard: time(&answer[8..]),
            answered: self.rate.between(sent, answered).context("time runs backwards")?,
        })
    }

    fn receive(&mut self, answer: &mut [u8; ANSWER]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut length = 0;
        while length < ANSWER {
            match self.stream.read(&mut answer[length..]) {
                Ok(0) => bail!("a server has ended"),
                Ok(count) => length += count,
                Err(error) if self.spins && error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        bail!("there was no answer for {} s", PATIENCE.as_secs());
                    }
                    std::hint::spin_loop();
                }
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        // Xorshift: good enough to fall anywhere between a server's own timers.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let (least, most) = ALONE_US;
        Duration::from_micros(least + self.random % (most - least))
    }
}
