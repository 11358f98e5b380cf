//! How long an idle guest is worth keeping: the longer, the more often it was wanted and the more it costs to bring it
//! back, beside the memory that it holds.

use super::residents::Resident;
use super::{GuestNumber, Pacing};

/// Knows when guests were active last.
pub trait LastActive {
    /// When the guest was active last, in the gatekeeper's time; 0 if that is not known. Must not go back.
    fn last_active_ns(&self, guest: GuestNumber) -> u64;
}

impl<F: Fn(GuestNumber) -> u64> LastActive for F {
    fn last_active_ns(&self, guest: GuestNumber) -> u64 {
        self(guest)
    }
}

/// What it takes to bring any guest back, in ns, and how much more for each byte that is read.
const WAKE_NS: f64 = 2_000_000.0;
const WAKE_NS_PER_BYTE: f64 = 0.3;

/// A guest's cost counts between a quarter and four times the usual.
const COST_MAX: f64 = 4.0;

/// Visits that are counted.
const VISITS_MAX: u8 = 32;

/// The part that a new value has in a mean.
const NEW: f64 = 1.0 / 64.0;

/// The longest that an ordinary guest is worth keeping, in ns: a day.
const SCALE_MAX_NS: f64 = 86_400e9;

/// The measure of all guests.
#[derive(Clone, Debug)]
pub(super) struct Worth {
    /// How long a guest may be idle that was wanted once and costs the usual, in ns: what those that left were idle, by
    /// the same measure.
    scale_ns: f64,
    scale_least_ns: f64,
    /// ns for each byte that leaves, in the mean.
    usual_cost: f64,
}

impl Worth {
    pub(super) fn new(pacing: &Pacing) -> Self {
        let least = pacing.active_ns.max(1_000_000) as f64;
        Self { scale_ns: pacing.stay_ns as f64 + least, scale_least_ns: least, usual_cost: 0.0 }
    }

    /// How many times longer than usual the guest is worth keeping.
    pub(super) fn times(&mut self, resident: &Resident, visits: u8) -> f64 {
        let claim = resident.claim;
        let stored = if claim.stored == 0 { claim.bytes } else { claim.stored };
        let cost = (WAKE_NS + stored as f64 * WAKE_NS_PER_BYTE) / claim.bytes.max(4096) as f64;
        if self.usual_cost == 0.0 {
            self.usual_cost = cost;
        }
        self.usual_cost += (cost - self.usual_cost) * NEW;
        let relative = (cost / self.usual_cost).clamp(1.0 / COST_MAX, COST_MAX);
        f64::from(visits.clamp(1, VISITS_MAX)) * relative
    }

    /// Until when a guest is worth keeping that was active at this time.
    pub(super) fn key_ns(&self, last_ns: u64, times: f64) -> u64 {
        last_ns.saturating_add((self.scale_ns * times) as u64)
    }

    /// A guest leaves that was idle for so long, and was worth keeping so many times longer than usual.
    pub(super) fn learn(&mut self, idle_ns: u64, times: f64) {
        let seen = idle_ns as f64 / times;
        let scale = self.scale_ns + (seen - self.scale_ns) * NEW;
        self.scale_ns = scale.clamp(self.scale_least_ns, SCALE_MAX_NS);
    }
}
