//! The gatekeeper of very many guests: who may be in memory, who has to wait, and who has to leave for whom.
//!
//! It knows guests that are in memory, and guests that wait for it; those that are parked cost it nothing. What happens
//! is told to it ([`want`](Gatekeeper::want), [`runs`](Gatekeeper::runs), [`left`](Gatekeeper::left),
//! [`memory`](Gatekeeper::memory)), and what is to be done is asked of it, one [`Decision`] at a time, until there is none
//! ([`decide`](Gatekeeper::decide)). `docs/gatekeeper.md` has every rule with its reason.

mod decide;
mod decision;
mod limits;
mod pace;
mod queue;
mod recall;
mod residents;
mod room;
mod worth;

pub use decision::{Decision, Reason, Refusal};
pub use limits::{Claim, Limits, Pacing, Quota};
pub use worth::LastActive;

use pace::Pace;
use queue::Queue;
use recall::Recall;
use residents::{Departure, Residents, Stage};
use room::Room;
use std::collections::HashMap;
use worth::Worth;

/// Number of a guest, as whoever looks after guests counts them.
pub type GuestNumber = u32;

/// Number of a tenant.
pub type Tenant = u32;

/// Decides who is in memory. Every operation takes time logarithmic in the guests that are in memory or wait; guests
/// that do neither take no memory, but for a bounded number that have left last.
///
/// Time is in ns of any clock that does not go back; what comes from before is taken as now.
#[derive(Clone, Debug)]
pub struct Gatekeeper {
    now_ns: u64,
    pacing: Pacing,
    room: Room,
    queue: Queue,
    residents: Residents,
    worth: Worth,
    recall: Recall,
    pace: Pace,
    /// Guests that were wanted while they were leaving: they wait as soon as they have left.
    again: HashMap<GuestNumber, Claim>,
    totals: Totals,
}

/// What was decided since there is a gatekeeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Guests that were let in.
    pub admitted: u64,
    /// Guests that were made to leave.
    pub evicted: u64,
    /// Guests that can never be let in, and were told so.
    pub refused: u64,
}

/// Where a guest is, as the gatekeeper sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is not in memory, and nothing is for it.
    Out,
    /// It waits until it is let in.
    Waiting,
    /// It was let in, and does not run yet.
    Coming,
    /// It runs, or idles in memory.
    In,
    /// It was told to leave, and is still there.
    Leaving,
}

/// Guests by where they are, and their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Guests that wait.
    pub waiting: usize,
    /// Guests that are let in and do not run yet.
    pub coming: usize,
    /// Guests that run, or idle in memory.
    pub inside: usize,
    /// Guests that were told to leave and are still there.
    pub leaving: usize,
    /// What those that come, are in or leave are counted for, in bytes.
    pub charged: u64,
}

impl Gatekeeper {
    /// A gatekeeper of no guests.
    #[must_use]
    pub fn new(limits: Limits, pacing: Pacing) -> Self {
        Self {
            now_ns: 0,
            pacing,
            room: Room::new(limits),
            queue: Queue::default(),
            residents: Residents::default(),
            worth: Worth::new(&pacing),
            recall: Recall::new(limits.max_running),
            pace: Pace::default(),
            again: HashMap::new(),
            totals: Totals::default(),
        }
    }

    /// Something is for a guest, or it is to be started: it waits until it is let in. A guest that waits already, or is
    /// in memory, is left as it is; one that is leaving waits as soon as it has left.
    pub fn want(&mut self, guest: GuestNumber, claim: Claim, now_ns: u64) {
        self.advance(now_ns);
        match self.residents.get(guest).map(|resident| resident.stage) {
            None => self.queue.push(guest, claim, self.now_ns),
            Some(Stage::Leaving) => _ = self.again.insert(guest, claim),
            Some(Stage::Coming | Stage::In) => {}
        }
    }

    /// A guest is in memory although nobody was asked: whoever looks after guests found it there when it started, say.
    /// It counts, also beyond the limits; those that are too many are made to leave as others are.
    pub fn found(&mut self, guest: GuestNumber, claim: Claim, now_ns: u64) {
        self.advance(now_ns);
        self.queue.remove(guest);
        if self.residents.get(guest).is_none() {
            self.enter(guest, claim);
        }
        self.runs(guest, now_ns);
    }

    /// A guest that was let in runs from now on.
    pub fn runs(&mut self, guest: GuestNumber, now_ns: u64) {
        self.advance(now_ns);
        if let Some(pledge) = self.residents.runs(guest, self.now_ns) {
            self.room.uses(pledge);
        }
    }

    /// A guest that was told to leave stays: it could not be parked. It stays for its least time anew, before it is told
    /// again.
    pub fn stays(&mut self, guest: GuestNumber, now_ns: u64) {
        self.advance(now_ns);
        self.again.remove(&guest);
        if let Some(claim) = self.residents.stays(guest, self.now_ns) {
            self.room.stays(claim);
        }
    }

    /// A guest is not in memory any more: it was parked, it has ended, or it could not come.
    pub fn left(&mut self, guest: GuestNumber, now_ns: u64) {
        self.advance(now_ns);
        let Some(Departure { claim, stage, stay }) = self.residents.leave(guest) else { return };
        self.room.leaves(claim, stage);
        if stage == Stage::Leaving {
            self.recall.left(guest, self.now_ns, stay, self.residents.len());
        }
        if let Some(claim) = self.again.remove(&guest) {
            self.queue.push(guest, claim, self.now_ns);
        }
    }

    /// Nothing is for the guest any more, or there is no such guest: it does not wait. If it is in memory, it counts until
    /// it has [left](Self::left).
    pub fn forget(&mut self, guest: GuestNumber) {
        self.queue.remove(guest);
        self.again.remove(&guest);
        if self.residents.get(guest).is_none() {
            self.recall.forget(guest);
        }
    }

    /// A guest was active at this time, in ns: for what [`LastActive`] does not know.
    pub fn active(&mut self, guest: GuestNumber, at_ns: u64) {
        self.residents.active(guest, at_ns);
    }

    /// What a guest in memory is counted for from now on, in bytes.
    pub fn charge(&mut self, guest: GuestNumber, bytes: u64) {
        if let Some((old, stage)) = self.residents.charge(guest, bytes) {
            self.room.charge(old, bytes, stage);
        }
    }

    /// The host's memory is so: what programs can have without anything being swapped, and all there is, in bytes. What
    /// was told before counts with what has been decided since; so it is best told at least every 100 ms while guests
    /// wait, and after guests have left.
    pub fn memory(&mut self, available: u64, total: u64) {
        self.room.sample(available, total);
    }

    /// These limits hold from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.recall.resize(limits.max_running);
        self.room.set_limits(limits);
    }

    /// What a tenant may have from now on; those that none is set for have no quota.
    pub fn set_quota(&mut self, tenant: Tenant, quota: Quota) {
        self.room.set_quota(tenant, quota);
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.room.limits()
    }

    /// Where a guest is.
    #[must_use]
    pub fn place(&self, guest: GuestNumber) -> Place {
        match self.residents.get(guest).map(|resident| resident.stage) {
            Some(Stage::Coming) => Place::Coming,
            Some(Stage::In) => Place::In,
            Some(Stage::Leaving) => Place::Leaving,
            None if self.queue.has(guest) => Place::Waiting,
            None => Place::Out,
        }
    }

    /// Guests by where they are.
    #[must_use]
    pub fn census(&self) -> Census {
        let (coming, leaving) = (self.room.coming(), self.room.leaving());
        let inside = self.residents.len() - coming - leaving;
        Census { waiting: self.queue.len(), coming, inside, leaving, charged: self.room.charged() }
    }

    /// What was decided so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// A guest counts as let in.
    fn enter(&mut self, guest: GuestNumber, claim: Claim) {
        let returns = self.recall.came(guest, self.now_ns, &self.pacing);
        let stay_ns = self.pacing.stay_ns(returns);
        self.residents.enter(guest, claim, returns, stay_ns);
        self.room.enters(claim);
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }
}
