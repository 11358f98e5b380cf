//! What the gatekeeper keeps to, and how it paces itself.

use super::Tenant;

/// What all guests together may have. 0 = no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Guests in memory at a time.
    pub max_running: u32,
    /// What guests in memory are counted for at most, in bytes.
    pub budget: u64,
    /// Memory of the host that is left free, in bytes.
    pub minimum_free: u64,
}

impl Limits {
    /// The limits of a host with so many bytes of memory, of which nothing else is known: a sixteenth is left free, and
    /// not more than 2 GiB.
    #[must_use]
    pub fn of_host(total: u64) -> Self {
        Self { max_running: 0, budget: 0, minimum_free: (total / 16).min(2 << 30) }
    }
}

/// What the guests of one tenant together may have. 0 = no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Guests in memory at a time.
    pub running: u32,
    /// What they are counted for, in bytes.
    pub memory: u64,
}

/// What a guest needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// What it is counted for while it is in memory, in bytes: as much as it is likely to use.
    pub bytes: u64,
    /// What is read to bring it back, in bytes; 0 if that is not known.
    pub stored: u64,
    /// Whose it is.
    pub tenant: Tenant,
    /// It cannot be parked, and is never told to leave.
    pub fixed: bool,
}

/// How the gatekeeper paces itself. All times are in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// How long a guest that has come stays at least.
    pub stay_ns: u64,
    /// The most that grows to, by doubling each time that the guest is back soon.
    pub stay_max_ns: u64,
    /// A guest that is back within this time after it was told to leave is back soon.
    pub soon_ns: u64,
    /// A guest that was active within this time does not leave for others while any does not need to.
    pub active_ns: u64,
    /// Who has waited so long has others leave that are active.
    pub patience_ns: u64,
    /// Guests that are told to leave, in a second at most.
    pub evictions_per_s: u32,
    /// For how many guests room is made in advance while there is a crowd at the gate; an eighth of
    /// [`Limits::max_running`] at most.
    pub reserve: u32,
    /// For how long there is a crowd after somebody had to wait for another to leave.
    pub crowd_ns: u64,
}

/// One second, in ns.
pub(super) const SECOND_NS: u64 = 1_000_000_000;

impl Default for Pacing {
    fn default() -> Self {
        Self {
            stay_ns: SECOND_NS,
            stay_max_ns: 10 * SECOND_NS,
            soon_ns: 10 * SECOND_NS,
            active_ns: SECOND_NS,
            patience_ns: SECOND_NS / 5,
            evictions_per_s: 500,
            reserve: 64,
            crowd_ns: 10 * SECOND_NS,
        }
    }
}

impl Pacing {
    /// How long a guest stays at least that was back soon so many times in a row.
    pub(super) fn stay_ns(&self, returns: u8) -> u64 {
        let grown = self.stay_ns.saturating_mul(1 << returns.min(32));
        grown.min(self.stay_max_ns.max(self.stay_ns))
    }

    /// For how many guests room is made in advance where so many may run.
    pub(super) fn reserve(&self, max_running: u32) -> u32 {
        let most = if max_running == 0 { u32::MAX } else { max_running / 8 };
        self.reserve.min(most)
    }
}
