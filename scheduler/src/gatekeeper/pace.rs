//! How fast guests are told to leave, and whether there is a crowd at the gate.

use super::Pacing;
use super::limits::SECOND_NS;

/// The rate of decisions that someone has to leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// When the next one may be told to leave if they had always been told at the highest rate, in ns.
    due_ns: u64,
    /// Until when there is a crowd.
    crowd_until_ns: u64,
    /// Room is being made in advance.
    pub(super) ahead: bool,
    /// The host has too little memory, until it has somewhat more than what is to be free.
    pub(super) short: bool,
}

impl Pace {
    /// How many may be told to leave at once after a while in which none was: those of so many ns.
    const BURST_NS: u64 = SECOND_NS / 10;

    /// Whether one may be told to leave now.
    pub(super) fn may(&self, now_ns: u64) -> bool {
        self.due_ns <= now_ns.saturating_add(Self::BURST_NS)
    }

    /// When the next one may be told to leave, if not now.
    pub(super) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        (!self.may(now_ns)).then(|| self.due_ns.saturating_sub(Self::BURST_NS))
    }

    /// One is told to leave now; because somebody waits for that, or not.
    pub(super) fn evicts(&mut self, now_ns: u64, pacing: &Pacing, is_awaited: bool) {
        let step = SECOND_NS / u64::from(pacing.evictions_per_s.max(1));
        self.due_ns = self.due_ns.max(now_ns).saturating_add(step);
        if is_awaited {
            self.crowd_until_ns = now_ns.saturating_add(pacing.crowd_ns);
        }
    }

    /// Whether somebody had to wait lately.
    pub(super) fn has_crowd(&self, now_ns: u64) -> bool {
        now_ns < self.crowd_until_ns
    }
}
