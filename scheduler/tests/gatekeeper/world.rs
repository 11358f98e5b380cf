//! A host that does what the gatekeeper decides: guests take time to come and to leave, and use what they are counted
//! for.

use denali_scheduler::gatekeeper::{Claim, Decision, Gatekeeper, Limits, Pacing};
use std::collections::{BTreeMap, HashMap};

/// One millisecond, in ns.
pub const MS: u64 = 1_000_000;

/// Memory of a guest that claims nothing else.
pub const MIB: u64 = 1 << 20;

/// Times that come quickly in tests.
pub const PACING: Pacing = Pacing {
    stay_ns: 100 * MS,
    stay_max_ns: 1600 * MS,
    soon_ns: 1000 * MS,
    active_ns: 50 * MS,
    patience_ns: 20 * MS,
    evictions_per_s: 10_000,
    reserve: 0,
    crowd_ns: 1000 * MS,
};

/// How long guests take to come and to leave.
const COMING_NS: u64 = 3 * MS;
const LEAVING_NS: u64 = 5 * MS;

/// Most decisions at one moment.
const DECISIONS_MAX: usize = 100_000;

/// The host.
pub struct World {
    pub gate: Gatekeeper,
    pub now: u64,
    /// The host's memory, and what others than guests use.
    pub total: u64,
    pub others: u64,
    pub claims: HashMap<u32, Claim>,
    pub last: HashMap<u32, u64>,
    /// Guests in memory, and until when they come or leave.
    pub inside: BTreeMap<u32, Stage>,
    pub decisions: Vec<Decision>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Coming(u64),
    In,
    Leaving(u64),
}

impl World {
    pub fn new(limits: Limits, pacing: Pacing) -> Self {
        Self {
            gate: Gatekeeper::new(limits, pacing),
            now: 1,
            total: 1 << 40,
            others: 0,
            claims: HashMap::new(),
            last: HashMap::new(),
            inside: BTreeMap::new(),
            decisions: Vec::new(),
        }
    }

    /// Room for so many guests.
    pub fn of(max_running: u32) -> Self {
        Self::new(Limits { max_running, ..Limits::default() }, PACING)
    }

    pub fn want(&mut self, guest: u32) {
        self.want_as(guest, Claim { bytes: MIB, ..Claim::default() });
    }

    pub fn want_as(&mut self, guest: u32, claim: Claim) {
        self.claims.entry(guest).or_insert(claim);
        self.gate.want(guest, claim, self.now);
    }

    pub fn active(&mut self, guest: u32) {
        self.last.insert(guest, self.now);
    }

    pub fn used(&self) -> u64 {
        self.inside.keys().map(|guest| self.claims[guest].bytes).sum()
    }

    pub fn free(&self) -> u64 {
        self.total.saturating_sub(self.others + self.used())
    }

    /// Does what is decided now; how many decisions there were.
    pub fn settle(&mut self) -> usize {
        self.gate.memory(self.free(), self.total);
        for count in 0..DECISIONS_MAX {
            let last = |guest| self.last.get(&guest).copied().unwrap_or(0);
            let Some(decision) = self.gate.decide(self.now, &last) else { return count };
            self.decisions.push(decision);
            match decision {
                Decision::Admit { guest, .. } => {
                    let stage = Stage::Coming(self.now + COMING_NS);
                    assert!(self.inside.insert(guest, stage).is_none(), "guest {guest} is there");
                }
                Decision::Evict { guest, .. } => {
                    let stage = Stage::Leaving(self.now + LEAVING_NS);
                    let before = self.inside.insert(guest, stage);
                    assert_eq!(before, Some(Stage::In), "guest {guest} does not run");
                }
                Decision::Refuse { .. } => {}
            }
        }
        panic!("no end of decisions")
    }

    /// Time passes, in steps of a millisecond.
    pub fn pass(&mut self, ms: u64) {
        self.settle();
        for _ in 0..ms {
            self.now += MS;
            let over: Vec<(u32, Stage)> =
                self.inside.iter().map(|(&guest, &stage)| (guest, stage)).collect();
            for (guest, stage) in over {
                match stage {
                    Stage::Coming(at) if at <= self.now => {
                        self.inside.insert(guest, Stage::In);
                        self.gate.runs(guest, self.now);
                    }
                    Stage::Leaving(at) if at <= self.now => {
                        self.inside.remove(&guest);
                        self.gate.left(guest, self.now);
                    }
                    _ => {}
                }
            }
            self.settle();
        }
    }

    /// Guests that were let in, in that order, since decisions were forgotten.
    pub fn admitted(&self) -> Vec<u32> {
        let of = |decision: &Decision| match *decision {
            Decision::Admit { guest, .. } => Some(guest),
            _ => None,
        };
        self.decisions.iter().filter_map(of).collect()
    }

    /// Guests that were told to leave, likewise.
    pub fn evicted(&self) -> Vec<u32> {
        let of = |decision: &Decision| match *decision {
            Decision::Evict { guest, .. } => Some(guest),
            _ => None,
        };
        self.decisions.iter().filter_map(of).collect()
    }

    /// Guests come and run; what was decided is forgotten.
    pub fn fill(&mut self, guests: impl IntoIterator<Item = u32>) {
        for guest in guests {
            self.want(guest);
            self.pass(1);
        }
        self.pass(10);
        self.decisions.clear();
    }
}
