//! What was counted of a load.

use crate::spread::Spread;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Why a request was not answered as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody accepts its connection.
    Refused,
    /// Its connection was reset, or failed otherwise.
    Broken,
    /// Its connection ended before its answer was whole.
    Cut,
    /// There was no answer in time.
    Late,
    /// As many requests as may be out were out: it was not sent.
    Crowded,
    /// This program had no port, or no descriptor, for it.
    Host,
    /// Its answer had another status than 200.
    Status,
    /// It was another guest's page.
    Page,
    /// Its answer was none.
    Malformed,
}

impl Trouble {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Refused,
        Self::Broken,
        Self::Cut,
        Self::Late,
        Self::Crowded,
        Self::Host,
        Self::Status,
        Self::Page,
        Self::Malformed,
    ];

    /// What programs and people read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Cut => "cut",
            Self::Late => "late",
            Self::Crowded => "crowded",
            Self::Host => "host",
            Self::Status => "status",
            Self::Page => "page",
            Self::Malformed => "malformed",
        }
    }

    /// What an error of a socket means.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::AddrNotAvailable => Self::Host,
            _ if [
                Some(libc::EMFILE),
                Some(libc::ENFILE),
                Some(libc::ENOBUFS),
                Some(libc::ENOMEM),
            ]
            .contains(&error.raw_os_error()) =>
            {
                Self::Host
            }
            _ => Self::Broken,
        }
    }
}

/// What was counted. Requests count by when they were due.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// How long requests were counted that were due.
    pub(crate) length: Duration,
    /// Requests that were due.
    pub(crate) asked: u64,
    /// Right answers, whenever they were due, that came in this time.
    pub(crate) answered_in_time: u64,
    /// From when a request was due until all of its answer was there, in ns; of right answers.
    pub(crate) latencies: Spread,
    /// How late requests were sent, in ns.
    pub(crate) lateness: Spread,
    troubles: [u64; Trouble::ALL.len()],
    /// Who has answered.
    hit: Vec<bool>,
    /// Most requests that were out at a time, of any thread.
    pub(crate) most_out: usize,
    /// Connections that were to be used again, and had ended meanwhile.
    pub(crate) reconnects: u64,
    /// Processor time of the threads that asked.
    pub(crate) processor: Duration,
    /// How long they ran.
    pub(crate) ran: Duration,
}

impl Tally {
    pub(super) fn new(targets: usize, length: Duration) -> Self {
        Self {
            length,
            asked: 0,
            answered_in_time: 0,
            latencies: Spread::default(),
            lateness: Spread::default(),
            troubles: [0; Trouble::ALL.len()],
            hit: vec![false; targets],
            most_out: 0,
            reconnects: 0,
            processor: Duration::ZERO,
            ran: Duration::ZERO,
        }
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.troubles[trouble as usize] += 1;
    }

    pub(super) fn right(&mut self, target: u32, latency: Duration) {
        self.latencies.record(latency.as_nanos() as u64);
        self.hit[target as usize] = true;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.answered_in_time += other.answered_in_time;
        self.latencies.merge(&other.latencies);
        self.lateness.merge(&other.lateness);
        for (own, more) in self.troubles.iter_mut().zip(other.troubles) {
            *own += more;
        }
        for (own, more) in self.hit.iter_mut().zip(&other.hit) {
            *own |= more;
        }
        self.most_out = self.most_out.max(other.most_out);
        self.reconnects += other.reconnects;
        self.processor += other.processor;
        self.ran = self.ran.max(other.ran);
    }

    /// Requests that were due, a second.
    pub(crate) fn offered_per_s(&self) -> f64 {
        self.asked as f64 / self.length.as_secs_f64()
    }

    /// Right answers, a second.
    pub(crate) fn achieved_per_s(&self) -> f64 {
        self.answered_in_time as f64 / self.length.as_secs_f64()
    }

    /// The latency that so many thousandths of the right answers do not exceed, in ms.
    pub(crate) fn latency_ms(&self, thousandths: u64) -> Option<f64> {
        self.latencies.percentile(thousandths).map(|ns| ns as f64 / 1e6)
    }

    /// Requests that failed in this way.
    pub(crate) fn troubles(&self, trouble: Trouble) -> u64 {
        self.troubles[trouble as usize]
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.troubles.iter().sum()
    }

    /// Those who have answered.
    pub(crate) fn distinct(&self) -> usize {
        self.hit.iter().filter(|hit| **hit).count()
    }

    /// Whether each one has answered.
    pub(super) fn hit(&self) -> &[bool] {
        &self.hit
    }

    /// Processor time of this program, of one processor.
    pub(crate) fn processor_share(&self) -> f64 {
        self.processor.as_secs_f64() / self.ran.as_secs_f64().max(1e-9)
    }

    /// What failed, in a line; empty if nothing did.
    pub(crate) fn describe_troubles(&self) -> String {
        let some = Trouble::ALL.iter().filter(|&&trouble| self.troubles(trouble) > 0);
        let parts: Vec<String> =
            some.map(|&trouble| format!("{} {}", self.troubles(trouble), trouble.name())).collect();
        parts.join(", ")
    }
}
