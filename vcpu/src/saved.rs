//! The loop's part of a guest that is saved: the vCPU, where it stands, and its clock.

use crate::clock::SavedClock;
use crate::{End, Error, Machine, State, VcpuLoop, failed};
use denali_hypervisor::VcpuState;
use serde::{Deserialize, Serialize};

/// What a guest goes on with, beside its memory and devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLoop {
    /// Its registers.
    pub vcpu: VcpuState,
    /// It waits in IDLE.
    pub idle: bool,
    /// The last deadline while running that was met, in ns of its monotonic time.
    pub run_deadline_met: u64,
    /// Its time.
    pub clock: SavedClock,
}

impl<M: Machine> VcpuLoop<M> {
    /// Continues a guest that was saved: the vCPU and the clock are those of `saved` already.
    #[must_use]
    pub fn resumed(self, saved: &SavedLoop) -> Self {
        Self { starts_idle: saved.idle, run_deadline_met: saved.run_deadline_met, ..self }
    }

    /// Has the guest saved, between two exits. What was raised is posted before, so that nothing is left
    /// but what is in its memory.
    pub(crate) fn save(&mut self, idle: bool) -> Result<State, Error> {
        self.poster.post(self.ram.registers());
        let saved = SavedLoop {
            vcpu: self.vcpu.save()?,
            idle,
            run_deadline_met: self.run_deadline_met,
            clock: self.clock.save(self.machine.boot_id()),
        };
        let now_ns = self.clock.now_ns();
        Ok(match self.machine.save(saved, now_ns).map_err(failed("save the guest"))? {
            true => State::Ended(End::Parked),
            false if idle => State::Idle,
            false => State::Enter,
        })
    }
}
