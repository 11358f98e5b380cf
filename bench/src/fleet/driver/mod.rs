//! The load on a fleet: requests that come when they come, whether earlier ones were answered or not.
//!
//! It is an open loop. Requests are a Poisson process; each has its time before anything is known of those before it, and
//! its latency counts from that time, even where this program was late itself: so nothing that is slow makes the load
//! lighter or hides what waited behind it (coordinated omission). What cannot be sent, because too many are out already, is an
//! error, not a request that waits unseen.
//!
//! | file | its job |
//! |---|---|
//! | `worker` | one thread: sends what is due, hears answers, gives up what takes too long |
//! | `slots` | connections, by number |
//! | `answer` | whether what came is the right answer |
//! | `poll` | waiting for sockets, to the microsecond |
//! | `tally` | what was counted |

mod answer;
mod poll;
mod slots;
mod tally;
mod worker;

pub(crate) use tally::{Tally, Trouble};

use crate::options::DriverOptions;
use crate::random::Random;
use crate::zipf::Zipf;
use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use worker::Worker;

/// Descriptors of this program that are no connections.
const OTHER_FILES: u64 = 64;

/// Somebody to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddrV4,
    /// What its page shows, and nobody else's.
    pub(crate) shows: String,
}

/// Who is asked, and how often.
#[derive(Debug)]
pub(crate) struct Targets {
    all: Vec<Target>,
    order: Order,
}

/// Who is asked next.
#[derive(Debug)]
enum Order {
    /// By chance, with these chances, for as long as the load lasts.
    Chance(Zipf),
    /// Each once, the one after the other: the number of the next one.
    Turn(AtomicUsize),
}

impl Targets {
    /// These, of which there must be one, each asked as often as Zipf's law has it for a rank that it has by chance;
    /// 0 = all alike.
    pub(crate) fn new(targets: Vec<Target>, alpha: f64) -> Result<Self> {
        let count = u32::try_from(targets.len()).context("too many targets")?;
        if count == 0 {
            bail!("there is nobody to ask");
        }
        let order = Order::Chance(Zipf::new(count, alpha, &mut Random::new()));
        Ok(Self { all: targets, order })
    }

    /// These, each asked once.
    pub(crate) fn in_turn(targets: Vec<Target>) -> Self {
        Self { all: targets, order: Order::Turn(AtomicUsize::new(0)) }
    }

    /// Who is asked next; `None`: all have been.
    fn next(&self, random: &mut Random) -> Option<u32> {
        match &self.order {
            Order::Chance(zipf) => Some(zipf.draw(random)),
            Order::Turn(next) => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                u32::try_from(number).ok().filter(|_| number < self.all.len())
            }
        }
    }

    fn are_in_turn(&self) -> bool {
        matches!(self.order, Order::Turn(_))
    }

    /// Those that have not answered.
    pub(crate) fn silent(&self, tally: &Tally) -> Vec<Target> {
        let silent = self.all.iter().zip(tally.hit()).filter(|(_, hit)| !**hit);
        silent.map(|(target, _)| target.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

/// How they are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests a second, on average.
    pub(crate) rate: f64,
    /// How long requests come before any is counted, and then.
    pub(crate) warm: Duration,
    pub(crate) length: Duration,
    /// When a request is given up.
    pub(crate) timeout: Duration,
    /// Requests that can be out at a time, of all threads.
    pub(crate) in_flight: usize,
    /// Connections are used again; else each request has its own.
    pub(crate) keep_alive: bool,
    pub(crate) threads: usize,
}

impl Load {
    /// A load of these options, whose rate and times are to be said still.
    pub(crate) fn of(options: DriverOptions) -> Self {
        Self {
            rate: 1.0,
            warm: Duration::ZERO,
            length: Duration::from_secs(1),
            timeout: Duration::from_millis(options.timeout.into()),
            in_flight: options.in_flight as usize,
            keep_alive: options.keep_alive,
            threads: options.threads.into(),
        }
    }
}

/// Asks, and says what was found.
pub(crate) fn run(targets: &Targets, load: Load) -> Result<Tally> {
    let threads = load.threads.max(1);
    allow_files(load.in_flight as u64 + OTHER_FILES)?;
    // A moment for all threads to be there.
    let start = Instant::now() + Duration::from_millis(5);
    let part = Load {
        rate: load.rate / threads as f64,
        in_flight: (load.in_flight / threads).max(1),
        ..load
    };
    let tallies = thread::scope(|scope| {
        let work = || Worker::new(targets, part, start)?.run();
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().map(|thread| match thread.join() {
            Ok(tally) => tally,
            Err(_) => bail!("a thread has panicked"),
        });
        ended.collect::<Result<Vec<_>>>()
    })?;
    let mut sum = Tally::new(targets.len(), load.length);
    tallies.iter().for_each(|tally| sum.add(tally));
    Ok(sum)
}

/// Has this process have so many descriptors open.
fn allow_files(count: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read limits")?;
    if soft >= count {
        return Ok(());
    }
    if hard < count {
        bail!(
            "{count} files must be open at once, and {hard} may be; raise `ulimit -Hn`, or ask for fewer in flight"
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, count, hard).context("cannot have more files open")
}

#[cfg(test)]
mod tests;
