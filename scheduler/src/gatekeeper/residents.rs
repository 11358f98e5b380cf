//! Guests in memory, and the orders in which they leave.

use super::{Claim, GuestNumber, Tenant};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

/// How far a guest in memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not run yet.
    Coming,
    /// It runs, or idles.
    In,
    /// It was told to leave.
    Leaving,
}

/// Guests at most that may leave all at once.
const RIPEN_MAX: usize = 256;

/// A guest in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) claim: Claim,
    pub(super) stage: Stage,
    /// How long it stays at least.
    pub(super) stay_ns: u64,
    /// Since when it runs.
    pub(super) since_ns: u64,
    /// When it was active last, as far as was told.
    pub(super) told_ns: u64,
    /// When it had been active last when it was looked at.
    pub(super) seen_ns: u64,
    /// Times in a row that it was back soon.
    pub(super) returns: u8,
    /// Its place among those that may leave: what it had when it was looked at last, and not more than what it has.
    key_ns: Option<u64>,
}

impl Resident {
    /// From when on it may be told to leave.
    pub(super) fn free_ns(&self) -> u64 {
        self.since_ns.saturating_add(self.stay_ns)
    }
}

/// A guest that has left memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) claim: Claim,
    pub(super) stage: Stage,
    pub(super) stay: Stay,
}

/// What is remembered of a guest's stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay {
    pub(super) returns: u8,
}

/// Whose guests are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everybody's.
    All,
    /// One tenant's.
    Of(Tenant),
}

/// Guests in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents {
    all: HashMap<GuestNumber, Resident>,
    /// Those that run and can be parked, by when their least stay is over.
    stays: Ranks,
    /// Those of them whose least stay was over when that was last looked at, by how long they are worth keeping.
    worth: Ranks,
    /// How far that was, in the order of `stays`.
    ripened: (u64, GuestNumber),
    hand: Option<(u64, GuestNumber)>,
}

impl Residents {
    pub(super) fn get(&self, guest: GuestNumber) -> Option<&Resident> {
        self.all.get(&guest)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A guest is let in.
    pub(super) fn enter(&mut self, guest: GuestNumber, claim: Claim, returns: u8, stay_ns: u64) {
        let resident = Resident {
            claim,
            stage: Stage::Coming,
            stay_ns,
            since_ns: 0,
            told_ns: 0,
            seen_ns: 0,
            returns,
            key_ns: None,
        };
        self.all.insert(guest, resident);
    }

    /// A guest that was coming runs; what it is counted for. `None`: it was not.
    pub(super) fn runs(&mut self, guest: GuestNumber, now_ns: u64) -> Option<Claim> {
        let resident = self.all.get_mut(&guest).filter(|it| it.stage == Stage::Coming)?;
        (resident.stage, resident.since_ns) = (Stage::In, now_ns);
        let claim = resident.claim;
        self.list(guest);
        Some(claim)
    }

    /// A guest is told to leave.
    pub(super) fn tell_to_leave(&mut self, guest: GuestNumber) {
        self.unlist(guest);
        if let Some(resident) = self.all.get_mut(&guest) {
            resident.stage = Stage::Leaving;
        }
    }

    /// A guest that was told to leave stays; what it is counted for. `None`: it was not told.
    pub(super) fn stays(&mut self, guest: GuestNumber, now_ns: u64) -> Option<Claim> {
        let resident = self.all.get_mut(&guest).filter(|it| it.stage == Stage::Leaving)?;
        (resident.stage, resident.since_ns) = (Stage::In, now_ns);
        let claim = resident.claim;
        self.list(guest);
        Some(claim)
    }

    /// A guest is gone.
    pub(super) fn leave(&mut self, guest: GuestNumber) -> Option<Departure> {
        self.unlist(guest);
        let Resident { claim, stage, returns, .. } = self.all.remove(&guest)?;
        Some(Departure { claim, stage, stay: Stay { returns } })
    }

    pub(super) fn active(&mut self, guest: GuestNumber, at_ns: u64) {
        if let Some(resident) = self.all.get_mut(&guest) {
            resident.told_ns = resident.told_ns.max(at_ns);
        }
    }

    /// A guest is counted for other bytes; for which it was, and how far it is.
    pub(super) fn charge(&mut self, guest: GuestNumber, bytes: u64) -> Option<(Claim, Stage)> {
        let resident = self.all.get_mut(&guest)?;
        let old = resident.claim;
        resident.claim.bytes = bytes;
        Some((old, resident.stage))
    }

    /// Those whose least stay is over by now may leave; of a great many some, and others the next time.
    pub(super) fn ripen(&mut self, now_ns: u64) {
        let end = (now_ns, GuestNumber::MAX);
        if self.ripened >= end {
            return;
        }
        let ripe = self.stays.all.range((Excluded(self.ripened), Included(end))).take(RIPEN_MAX);
        let ripe: Vec<(u64, GuestNumber)> = ripe.copied().collect();
        self.ripened = if ripe.len() < RIPEN_MAX { end } else { ripe[RIPEN_MAX - 1] };
        for (_, guest) in ripe {
            self.list_worth(guest);
        }
    }

    /// The next guest of a hand that goes round all that can be parked.
    pub(super) fn hand(&mut self) -> Option<GuestNumber> {
        let next =
            self.stays.after(Scope::All, self.hand).or_else(|| self.stays.after(Scope::All, None));
        self.hand = next;
        next.map(|(_, guest)| guest)
    }

    /// The guest whose least stay was, or will be, over first, and when.
    pub(super) fn longest(&self, scope: Scope) -> Option<(u64, GuestNumber)> {
        self.stays.after(scope, None)
    }

    /// The guest after this one of those that may leave, in the order of how long they were worth keeping when they
    /// were looked at.
    pub(super) fn least_worth(
        &self,
        scope: Scope,
        after: Option<(u64, GuestNumber)>,
    ) -> Option<(u64, GuestNumber)> {
        self.worth.after(scope, after)
    }

    /// A guest that may leave was looked at: it had been active at this time, and its place is this.
    pub(super) fn looked_at(&mut self, guest: GuestNumber, seen_ns: u64, key_ns: u64) {
        let Some(resident) = self.all.get_mut(&guest) else { return };
        resident.seen_ns = seen_ns;
        if let Some(old) = resident.key_ns.filter(|&old| old != key_ns) {
            let tenant = resident.claim.tenant;
            resident.key_ns = Some(key_ns);
            self.worth.remove(old, guest, tenant);
            self.worth.insert(key_ns, guest, tenant);
        }
    }

    fn list(&mut self, guest: GuestNumber) {
        let Some(resident) = self.all.get(&guest).filter(|it| !it.claim.fixed) else { return };
        let free_ns = resident.free_ns();
        self.stays.insert(free_ns, guest, resident.claim.tenant);
        if (free_ns, guest) <= self.ripened {
            self.list_worth(guest);
        }
    }

    /// The guest is to be looked at before others: nothing is known of it since it came.
    fn list_worth(&mut self, guest: GuestNumber) {
        let Some(resident) = self.all.get_mut(&guest) else { return };
        resident.key_ns = Some(resident.since_ns);
        self.worth.insert(resident.since_ns, guest, resident.claim.tenant);
    }

    fn unlist(&mut self, guest: GuestNumber) {
        let Some(resident) = self.all.get_mut(&guest) else { return };
        let tenant = resident.claim.tenant;
        self.stays.remove(resident.free_ns(), guest, tenant);
        if let Some(key) = resident.key_ns.take() {
            self.worth.remove(key, guest, tenant);
        }
    }
}

/// Guests in an order, all of them and each tenant's.
#[derive(Clone, Debug, Default)]
struct Ranks {
    all: BTreeSet<(u64, GuestNumber)>,
    own: BTreeSet<(Tenant, u64, GuestNumber)>,
}

impl Ranks {
    fn insert(&mut self, key: u64, guest: GuestNumber, tenant: Tenant) {
        self.all.insert((key, guest));
        self.own.insert((tenant, key, guest));
    }

    fn remove(&mut self, key: u64, guest: GuestNumber, tenant: Tenant) {
        self.all.remove(&(key, guest));
        self.own.remove(&(tenant, key, guest));
    }

    /// The next one after this, or the first.
    fn after(&self, scope: Scope, after: Option<(u64, GuestNumber)>) -> Option<(u64, GuestNumber)> {
        match scope {
            Scope::All => {
                let from = after.map_or(Unbounded, Excluded);
                self.all.range((from, Unbounded)).next().copied()
            }
            Scope::Of(tenant) => {
                let first = Included((tenant, 0, 0));
                let from = after.map_or(first, |(key, guest)| Excluded((tenant, key, guest)));
                let next = self.own.range((from, Unbounded)).next();
                next.filter(|next| next.0 == tenant).map(|&(_, key, guest)| (key, guest))
            }
        }
    }
}
