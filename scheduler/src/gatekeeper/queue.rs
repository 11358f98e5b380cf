//! Guests that wait to be let in: in the order in which they came within a tenant, by turns among tenants.

use super::{Claim, GuestNumber, Tenant};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// The queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    waiting: HashMap<GuestNumber, Waiting>,
    /// By tenant and ticket.
    order: BTreeMap<(Tenant, u64), GuestNumber>,
    /// Tenants by whose turn it is. Each that has guests here is listed once; one that has none any more is dropped
    /// when it is its turn.
    turns: VecDeque<Tenant>,
    listed: HashSet<Tenant>,
    tickets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    claim: Claim,
    ticket: u64,
    since_ns: u64,
}

/// The guest whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) guest: GuestNumber,
    pub(super) claim: Claim,
    pub(super) since_ns: u64,
}

impl Queue {
    /// A guest waits from now on; one that does already keeps its place.
    pub(super) fn push(&mut self, guest: GuestNumber, claim: Claim, now_ns: u64) {
        if self.has(guest) {
            return;
        }
        self.tickets += 1;
        let waiting = Waiting { claim, ticket: self.tickets, since_ns: now_ns };
        self.waiting.insert(guest, waiting);
        self.order.insert((claim.tenant, waiting.ticket), guest);
        if self.listed.insert(claim.tenant) {
            self.turns.push_back(claim.tenant);
        }
    }

    /// A guest does not wait any more.
    pub(super) fn remove(&mut self, guest: GuestNumber) {
        if let Some(Waiting { claim, ticket, .. }) = self.waiting.remove(&guest) {
            self.order.remove(&(claim.tenant, ticket));
        }
    }

    /// Whose turn it is.
    pub(super) fn head(&mut self) -> Option<Head> {
        loop {
            let tenant = *self.turns.front()?;
            let first = self.order.range((tenant, 0)..=(tenant, u64::MAX)).next();
            if let Some(guest) = first.map(|(_, &guest)| guest) {
                let Waiting { claim, since_ns, .. } = *self.waiting.get(&guest)?;
                return Some(Head { guest, claim, since_ns });
            }
            self.turns.pop_front();
            self.listed.remove(&tenant);
        }
    }

    /// The guest whose turn it was waits no more, and it is the next tenant's turn.
    pub(super) fn take(&mut self, head: &Head) {
        self.remove(head.guest);
        self.pass();
    }

    /// It is the next tenant's turn.
    pub(super) fn pass(&mut self) {
        if !self.turns.is_empty() {
            self.turns.rotate_left(1);
        }
    }

    /// Tenants that have a turn.
    pub(super) fn tenants(&self) -> usize {
        self.turns.len()
    }

    /// Whether a guest waits.
    pub(super) fn has(&self, guest: GuestNumber) -> bool {
        self.waiting.contains_key(&guest)
    }

    /// Guests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
