//! A host whose guests are wanted by chance: requests come independently of each other, and the gatekeeper decides who is
//! in memory for them. Time is simulated, but for what the gatekeeper takes of this machine's.

use super::heap;
use super::lru::Lru;
use super::measured::Measured;
use crate::options::GatekeeperOptions;
use crate::random::Random;
use crate::zipf::Zipf;
use denali_scheduler::gatekeeper::{Claim, Decision, Gatekeeper, Limits, Pacing, Place};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// How long a guest takes to come and to leave, in ns: about what `bench swap` measures of guests `web`.
const COMING_NS: u64 = 3_000_000;
const LEAVING_NS: u64 = 5_000_000;

/// What a guest is counted for, and what is read to bring it back, in bytes.
const CLAIM: Claim = Claim { bytes: 1 << 20, stored: 1 << 19, tenant: 0, fixed: false };

/// One second, in ns.
const SECOND_NS: u64 = 1_000_000_000;

/// The same requests for everybody.
const SEED: u64 = 20_261_125;

/// What happens to a guest, and when.
type Happens = Reverse<(u64, What)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Runs(u32),
    Left(u32),
    /// The gatekeeper is asked again.
    Asked,
}

struct Host {
    now_ns: u64,
    gate: Gatekeeper,
    /// When each guest was active last: what the switch's table says on a real host.
    active_ns: Vec<u64>,
    happens: BinaryHeap<Happens>,
    /// When the gatekeeper is asked again at the latest.
    asked_ns: u64,
    measured: Measured,
    /// Whether what happens is counted.
    counts: bool,
}

/// Simulates guests that are wanted by Zipf's law with this exponent.
pub(super) fn simulate(options: &GatekeeperOptions, alpha: f64) -> Measured {
    let mut random = Random::of(SEED);
    let zipf = Zipf::new(options.guests, alpha, &mut random);
    let mut lru = Lru::new(options.guests, options.awake);
    let mut host = Host::new(options);
    let warm_ns = u64::from(options.seconds) * SECOND_NS;
    let mut next_ns = 0.0;
    loop {
        next_ns += random.gap(f64::from(options.rate)) * SECOND_NS as f64;
        let at_ns = next_ns as u64;
        if at_ns >= 2 * warm_ns {
            break;
        }
        host.pass(at_ns);
        host.counts = at_ns >= warm_ns;
        let guest = zipf.draw(&mut random);
        let lru_hit = lru.want(guest);
        host.request(guest);
        if host.counts {
            host.measured.lru_hits += u64::from(lru_hit);
        }
    }
    host.measured.seconds = f64::from(options.seconds);
    host.measured.best = zipf.part_of_first(options.awake);
    host.finish()
}

impl Host {
    fn new(options: &GatekeeperOptions) -> Self {
        let limits = Limits { max_running: options.awake, ..Limits::default() };
        Self {
            now_ns: 0,
            gate: Gatekeeper::new(limits, Pacing::default()),
            active_ns: vec![0; options.guests as usize],
            happens: BinaryHeap::new(),
            asked_ns: u64::MAX,
            measured: Measured::default(),
            counts: false,
        }
    }

    /// What happens until then.
    fn pass(&mut self, until_ns: u64) {
        while let Some(&Reverse((at_ns, what))) =
            self.happens.peek().filter(|next| next.0.0 <= until_ns)
        {
            self.happens.pop();
            self.now_ns = at_ns;
            match what {
                What::Runs(guest) => {
                    self.active_ns[guest as usize] = at_ns;
                    self.call(|gate, now| gate.runs(guest, now));
                }
                What::Left(guest) => self.call(|gate, now| gate.left(guest, now)),
                What::Asked if at_ns < self.asked_ns => continue,
                What::Asked => self.asked_ns = u64::MAX,
            }
            self.decide();
        }
        self.now_ns = until_ns;
    }

    /// A request comes for a guest.
    fn request(&mut self, guest: u32) {
        let is_inside = self.gate.place(guest) == Place::In;
        self.measured.requests += u64::from(self.counts);
        if is_inside {
            self.measured.hits += u64::from(self.counts);
            self.active_ns[guest as usize] = self.now_ns;
            return;
        }
        self.call(|gate, now| gate.want(guest, CLAIM, now));
        self.decide();
    }

    /// Does what the gatekeeper decides.
    fn decide(&mut self) {
        loop {
            let before = Instant::now();
            let active_ns = &self.active_ns;
            let last = |guest: u32| active_ns.get(guest as usize).copied().unwrap_or(0);
            let decision = self.gate.decide(self.now_ns, &last);
            self.took(before);
            let Some(decision) = decision else { break };
            self.measured.decisions += u64::from(self.counts);
            match decision {
                Decision::Admit { guest, waited_ns } => {
                    self.happens.push(Reverse((self.now_ns + COMING_NS, What::Runs(guest))));
                    if self.counts {
                        self.measured.admitted += 1;
                        self.measured.waits.record(waited_ns);
                    }
                }
                Decision::Evict { guest, .. } => {
                    self.happens.push(Reverse((self.now_ns + LEAVING_NS, What::Left(guest))));
                    self.measured.evicted += u64::from(self.counts);
                }
                Decision::Refuse { .. } => {}
            }
        }
        let next = self.gate.next_ns().map(|next| next.max(self.now_ns + 1));
        if let Some(next) = next.filter(|&next| next < self.asked_ns) {
            self.asked_ns = next;
            self.happens.push(Reverse((next, What::Asked)));
        }
    }

    fn call(&mut self, tell: impl FnOnce(&mut Gatekeeper, u64)) {
        let before = Instant::now();
        tell(&mut self.gate, self.now_ns);
        self.took(before);
    }

    fn took(&mut self, before: Instant) {
        if self.counts {
            self.measured.decision.record(before.elapsed().as_nanos() as u64);
        }
    }

    fn finish(mut self) -> Measured {
        self.measured.waiting = self.gate.census().waiting;
        // What a copy of it takes is what it takes.
        let before = heap::in_use();
        let copy = std::hint::black_box(self.gate.clone());
        self.measured.heap = heap::in_use().saturating_sub(before);
        drop(copy);
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::CommonOptions;

    fn simulated(guests: u32, awake: u32, alpha: f64) -> Measured {
        let common = CommonOptions { json: true, no_write: true, hypervisor: None };
        let options =
            GatekeeperOptions { common, guests, awake, alpha: vec![alpha], rate: 100, seconds: 60 };
        simulate(&options, alpha)
    }

    #[test]
    fn where_all_fit_all_are_found() {
        let measured = simulated(100, 100, 0.0);
        assert_eq!((measured.hits, measured.evicted), (measured.requests, 0));
        assert_eq!((measured.lru_hits, measured.best), (measured.requests, 1.0));
    }

    #[test]
    fn the_most_wanted_stay() {
        let measured = simulated(2000, 200, 1.0);
        let part = |count: u64| count as f64 / measured.requests as f64;
        assert!(
            part(measured.hits) > part(measured.lru_hits),
            "{} {}",
            measured.hits,
            measured.lru_hits
        );
        assert!(part(measured.hits) < measured.best + 0.02);
        assert!(measured.evicted.abs_diff(measured.admitted) < 200);
        assert!(measured.heap > 1000 && measured.decisions > 0);
    }
}
