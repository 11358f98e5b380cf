//! What servers and bots say about a stretch of play.

use super::bots::Bots;
use super::guests::Guests;
use super::text;
use crate::backend::Backend;
use crate::figures::Figures;
use crate::proc;
use anyhow::{Context, Result, bail};
use denali_game::{Answer, Histogram, Request, Status};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Bots on each server.
pub(super) const BOTS: usize = 4;

/// How long everybody plays before anything counts.
const WARM: Duration = Duration::from_secs(2);

/// How often a server is asked for its status, and how long each time.
const ATTEMPTS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// What was measured: of all servers, all bots, and all stretches that were added.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// How much later than due ticks began, in µs, as the servers say.
    lateness: Histogram,
    /// Time from an input to the first snapshot that knows it, in µs, as the bots say.
    latencies: Histogram,
    seconds: f64,
    ticks: u64,
    missed: u64,
    /// Snapshots that should have come, that came, and that were wrong.
    expected: u64,
    snapshots: u64,
    wrong: u64,
    /// Bots whose server did not hear of them, or they of it, for so long that they joined again.
    lost: u64,
    /// Processor time in seconds.
    of_guests: f64,
    of_bots: f64,
}

/// Servers, and the bots that play on them.
pub(super) struct Match<'a> {
    servers: &'a Guests,
    processes: Vec<i32>,
    bots: Bots,
}

impl<'a> Match<'a> {
    /// Has bots join all servers.
    pub(super) fn begin(servers: &'a Guests) -> Result<Self> {
        let mut bots = Bots::new(servers.addresses(), BOTS)?;
        bots.warm_up(WARM)?;
        Ok(Self { servers, processes: servers.processes()?, bots })
    }

    /// Plays on without counting, so that what was before is over.
    pub(super) fn play_on(&mut self) -> Result<()> {
        self.bots.play(WARM)
    }

    /// Measures for so many seconds.
    pub(super) fn measure(&mut self, seconds: u32) -> Result<Measured> {
        let before = self.statuses()?;
        // What waited while the servers were asked does not count.
        self.bots.play(Duration::from_millis(200))?;
        let (seen, guests, bots) = (self.bots.seen(), self.processor_seconds()?, own_seconds()?);
        let start = Instant::now();
        let latencies = self.bots.record(Duration::from_secs(seconds.into()))?;
        let seconds = start.elapsed().as_secs_f64();
        let of_bots = own_seconds()? - bots;
        let of_guests = self.processor_seconds()? - guests;
        let now_seen = self.bots.seen();
        let after = self.statuses()?;
        let mut measured = Measured {
            latencies,
            seconds,
            snapshots: now_seen.snapshots - seen.snapshots,
            wrong: now_seen.wrong - seen.wrong,
            lost: now_seen.lost - seen.lost,
            of_guests,
            of_bots,
            ..Measured::default()
        };
        for (before, after) in before.iter().zip(&after) {
            measured.lateness.merge(&after.lateness.since(&before.lateness));
            measured.ticks += after.ticks - before.ticks;
            measured.missed += after.missed - before.missed;
            measured.expected += (seconds * f64::from(after.tick_hz)) as u64 * BOTS as u64;
        }
        Ok(measured)
    }

    fn statuses(&self) -> Result<Vec<Status>> {
        self.servers.addresses().iter().map(|server| status(*server)).collect()
    }

    fn processor_seconds(&self) -> Result<f64> {
        self.processes.iter().map(|&pid| proc::processor_seconds(pid)).sum()
    }
}

impl Measured {
    /// Adds another stretch.
    pub(super) fn add(&mut self, other: &Self) {
        self.lateness.merge(&other.lateness);
        self.latencies.merge(&other.latencies);
        self.seconds += other.seconds;
        self.ticks += other.ticks;
        self.missed += other.missed;
        self.expected += other.expected;
        self.snapshots += other.snapshots;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.of_guests += other.of_guests;
        self.of_bots += other.of_bots;
    }

    /// Whether the servers keep their ticks, all but one in a thousand, nobody was lost, and no world
    /// was wrong.
    pub(super) fn keeps_up(&self) -> bool {
        self.missed * 1000 <= self.ticks && self.lost == 0 && self.wrong == 0
    }

    /// Sets the figures, whose names have `infix` before the back end's suffix.
    pub(super) fn fill(&self, infix: &str, backend: Backend, figures: &mut Figures) {
        let ms = |us: u64| us as f64 / 1000.0;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let lost = self.expected.saturating_sub(self.snapshots);
        let values = [
            self.lateness.percentile(500) as f64,
            self.lateness.percentile(990) as f64,
            ms(self.latencies.percentile(500)),
            ms(self.latencies.percentile(990)),
            percent(self.missed, self.ticks + self.missed),
            percent(lost, self.expected),
            self.lost as f64,
            100.0 * self.of_guests / self.seconds,
            100.0 * self.of_bots / self.seconds,
        ];
        for ((name, _), value) in text::FIGURES.iter().zip(values) {
            figures.set(format!("{name}{infix}{}", backend.suffix()), Some(value));
        }
        if self.wrong > 0 {
            figures.skip("worlds", &format!("{} snapshots were wrong", self.wrong));
        }
    }
}

/// Processor time of this thread so far.
fn own_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("cannot tell this thread's time")?;
    let sum = usage.user_time() + usage.system_time();
    Ok(sum.num_microseconds() as f64 / 1e6)
}

/// What a server says of itself.
fn status(server: SocketAddr) -> Result<Status> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot make a socket")?;
    socket.connect(server).context("cannot set up a socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("cannot set up a socket")?;
    let (mut request, mut buffer) = (Vec::new(), [0; 2048]);
    for nonce in 0..ATTEMPTS as u64 {
        Request::Status { nonce }.encode(&mut request);
        socket.send(&request).context("cannot ask a server")?;
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        if let Some(Answer::Status { status, .. }) = Answer::decode(&buffer[..len]) {
            return Ok(*status);
        }
    }
    bail!("a server does not say how it is")
}
