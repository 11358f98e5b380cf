//! How much room there is: guests and bytes, of all and of each tenant, beside the host's memory.

use super::residents::Stage;
use super::{Claim, Limits, Quota, Reason, Refusal, Tenant};
use std::collections::HashMap;

/// What is used of what there is.
#[derive(Clone, Debug)]
pub(super) struct Room {
    limits: Limits,
    quotas: HashMap<Tenant, Quota>,
    all: Used,
    /// Tenants that have guests in memory.
    tenants: HashMap<Tenant, Used>,
    coming: Used,
    host: Option<Host>,
    /// What guests will use, or have begun to use since the host's memory was looked at, in bytes.
    pledged: u64,
    /// What guests have given back since then.
    returned: u64,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    available: u64,
    total: u64,
}

/// Guests in memory, and those of them that leave.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    guests: u64,
    bytes: u64,
    leaving_guests: u64,
    leaving_bytes: u64,
}

/// Whether there is room for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// There is.
    There,
    /// There is when those have left that are leaving.
    Expected,
    /// There is not.
    Lacks(Reason),
}

impl Space {
    /// `need` must not exceed `limit`, of which `expected` becomes free; no limit counts as 0.
    fn of(need: u64, limit: u64, expected: u64, why: Reason) -> Self {
        match need {
            _ if limit == 0 || need <= limit => Self::There,
            _ if need - expected.min(need) <= limit => Self::Expected,
            _ => Self::Lacks(why),
        }
    }

    /// Room in both respects.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Lacks(_) => self,
            Self::There => other(),
            Self::Expected => match other() {
                Self::There => Self::Expected,
                worse => worse,
            },
        }
    }
}

impl Room {
    /// Room of a host whose memory is not known yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            quotas: HashMap::new(),
            all: Used::default(),
            tenants: HashMap::new(),
            coming: Used::default(),
            host: None,
            pledged: 0,
            returned: 0,
        }
    }

    /// Whether there is room for so many more guests with so many bytes in all.
    pub(super) fn space(&self, guests: u64, bytes: u64) -> Space {
        let Limits { max_running, budget, .. } = self.limits;
        let Used { leaving_guests, leaving_bytes, .. } = self.all;
        let running = Reason::Running { limit: max_running };
        Space::of(self.all.guests + guests, u64::from(max_running), leaving_guests, running)
            .and(|| {
                let why = Reason::Budget { limit: budget };
                Space::of(self.all.bytes.saturating_add(bytes), budget, leaving_bytes, why)
            })
            .and(|| self.free_space(bytes))
    }

    /// Whether limits are kept, and so many bytes are free beside the least.
    pub(super) fn excess(&self, slack: u64) -> Space {
        self.space(0, 0).and(|| self.free_space(slack))
    }

    /// Whether so many bytes can be had without the host having less free than it is to have.
    fn free_space(&self, bytes: u64) -> Space {
        let Some(Host { available, .. }) = self.host else { return Space::There };
        let minimum = self.limits.minimum_free;
        let free = available.saturating_sub(self.pledged);
        let expected = free.saturating_add(self.all.leaving_bytes).saturating_add(self.returned);
        match minimum.saturating_add(bytes) {
            need if need <= free => Space::There,
            need if need <= expected => Space::Expected,
            _ => Space::Lacks(Reason::Memory { free, minimum }),
        }
    }

    /// Whether a tenant may have one more guest with so many bytes.
    pub(super) fn own_space(&self, claim: &Claim) -> Space {
        let tenant = claim.tenant;
        let Some(&Quota { running, memory }) = self.quotas.get(&tenant) else {
            return Space::There;
        };
        let used = self.tenants.get(&tenant).copied().unwrap_or_default();
        let why = Reason::TenantRunning { tenant, limit: running };
        Space::of(used.guests + 1, u64::from(running), used.leaving_guests, why).and(|| {
            let why = Reason::TenantMemory { tenant, limit: memory };
            Space::of(used.bytes.saturating_add(claim.bytes), memory, used.leaving_bytes, why)
        })
    }

    /// Why there can never be room for a guest.
    pub(super) fn refusal(&self, claim: &Claim) -> Option<Refusal> {
        let bytes = claim.bytes;
        let exceeds = |limit: u64| limit > 0 && bytes > limit;
        let quota = self.quotas.get(&claim.tenant).map_or(0, |quota| quota.memory);
        let host = self.host.map(|host| host.total.saturating_sub(self.limits.minimum_free));
        match (self.limits.budget, quota, host) {
            (limit, ..) if exceeds(limit) => Some(Refusal::Budget { bytes, limit }),
            (_, limit, _) if exceeds(limit) => Some(Refusal::Quota { bytes, limit }),
            (.., Some(limit)) if bytes > limit => Some(Refusal::Host { bytes, limit }),
            _ => None,
        }
    }

    /// Whether so little of the host's memory is free, and will be when those have left that are leaving, that nothing else
    /// counts: less than half of what is to be.
    pub(super) fn is_in_need(&self) -> bool {
        let expected = self.all.leaving_bytes.saturating_add(self.returned);
        let half = self.limits.minimum_free / 2;
        self.host.is_some_and(|host| host.available.saturating_add(expected) < half)
    }

    /// A guest was let in.
    pub(super) fn enters(&mut self, claim: Claim) {
        self.each(claim.tenant, |used| used.add(claim.bytes));
        self.coming.add(claim.bytes);
        self.pledged = self.pledged.saturating_add(claim.bytes);
    }

    /// A guest that was let in runs.
    pub(super) fn uses(&mut self, claim: Claim) {
        self.coming.subtract(claim.bytes);
    }

    /// A guest is told to leave.
    pub(super) fn tells_to_leave(&mut self, claim: Claim) {
        self.each(claim.tenant, |used| {
            used.leaving_guests += 1;
            used.leaving_bytes = used.leaving_bytes.saturating_add(claim.bytes);
        });
    }

    /// A guest that was told to leave does not.
    pub(super) fn stays(&mut self, claim: Claim) {
        self.each(claim.tenant, |used| used.leaves_no_more(claim.bytes));
    }

    /// A guest is gone.
    pub(super) fn leaves(&mut self, claim: Claim, stage: Stage) {
        if stage == Stage::Leaving {
            self.stays(claim);
        }
        self.each(claim.tenant, |used| used.subtract(claim.bytes));
        if self.tenants.get(&claim.tenant).is_some_and(|used| used.guests == 0) {
            self.tenants.remove(&claim.tenant);
        }
        if stage == Stage::Coming {
            self.coming.subtract(claim.bytes);
            self.pledged = self.pledged.saturating_sub(claim.bytes);
        } else {
            self.returned = self.returned.saturating_add(claim.bytes);
        }
    }

    /// A guest in memory is counted for another number of bytes.
    pub(super) fn charge(&mut self, old: Claim, bytes: u64, stage: Stage) {
        let change = |used: &mut u64| *used = used.saturating_sub(old.bytes).saturating_add(bytes);
        self.each(old.tenant, |used| {
            change(&mut used.bytes);
            if stage == Stage::Leaving {
                change(&mut used.leaving_bytes);
            }
        });
        if stage == Stage::Coming {
            change(&mut self.coming.bytes);
            change(&mut self.pledged);
        }
    }

    /// The host's memory was looked at.
    pub(super) fn sample(&mut self, available: u64, total: u64) {
        self.host = Some(Host { available, total });
        (self.pledged, self.returned) = (self.coming.bytes, 0);
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn set_quota(&mut self, tenant: Tenant, quota: Quota) {
        if quota == Quota::default() {
            self.quotas.remove(&tenant);
        } else {
            self.quotas.insert(tenant, quota);
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What guests in memory are counted for, in bytes.
    pub(super) fn charged(&self) -> u64 {
        self.all.bytes
    }

    /// What a guest in memory is counted for in the mean.
    pub(super) fn mean_charge(&self) -> u64 {
        self.all.bytes / self.all.guests.max(1)
    }

    /// Guests that were let in and do not run yet.
    pub(super) fn coming(&self) -> usize {
        self.coming.guests as usize
    }

    /// Guests that are leaving.
    pub(super) fn leaving(&self) -> usize {
        self.all.leaving_guests as usize
    }

    fn each(&mut self, tenant: Tenant, change: impl Fn(&mut Used)) {
        change(&mut self.all);
        change(self.tenants.entry(tenant).or_default());
    }
}

impl Used {
    fn add(&mut self, bytes: u64) {
        self.guests += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn subtract(&mut self, bytes: u64) {
        self.guests = self.guests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn leaves_no_more(&mut self, bytes: u64) {
        self.leaving_guests = self.leaving_guests.saturating_sub(1);
        self.leaving_bytes = self.leaving_bytes.saturating_sub(bytes);
    }
}
