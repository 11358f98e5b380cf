//! What a vCPU under KVM is saved as, and set up from.

use super::extended::Transfer;
use crate::state::{Layout, mxcsr_mask};
use crate::{Error, Registers, VcpuState};
use kvm_ioctls::VcpuFd;

/// Vector of debug exceptions.
const DEBUG: u8 = 1;

/// How state is exchanged with this host's KVM, and what there is of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// How extended state is transferred.
    pub(super) transfer: Transfer,
    /// State components the guest's processor has.
    pub(super) components: u64,
    /// Where they are in what is transferred.
    pub(super) layout: &'static Layout,
}

impl Exchange {
    /// The state of a vCPU whose general registers are these, no I/O instruction being under way.
    pub(super) fn save(&self, fd: &VcpuFd, registers: Registers) -> Result<VcpuState, Error> {
        let sregs = fd.get_sregs().map_err(Error::host("read system registers"))?;
        let area = self.transfer.get(fd)?;
        Ok(VcpuState {
            registers,
            fs_base: sregs.fs.base,
            gs_base: sregs.gs.base,
            // Of an instruction that was single-stepped, and that KVM has carried out.
            trap: waiting_exception(fd) == Some(DEBUG),
            components: self.components,
            extended: self.layout.take_apart(&area, self.components),
        })
    }

    /// Sets everything of `state` but general registers and the trap that is due.
    pub(super) fn restore(&self, fd: &VcpuFd, state: &VcpuState) -> Result<(), Error> {
        state.check(self.components, mxcsr_mask())?;
        let mut area = self.transfer.clean();
        self.layout
            .put_together(&state.extended, self.components, &mut area)
            .ok_or(Error::Misuse("extended processor state does not fit"))?;
        self.transfer.set(fd, &area)?;
        let mut sregs = fd.get_sregs().map_err(Error::host("read system registers"))?;
        (sregs.fs.base, sregs.gs.base) = (state.fs_base, state.gs_base);
        fd.set_sregs(&sregs).map_err(Error::host("set system registers"))
    }
}

/// The exception that KVM will raise at the next entry, as it said when it last came out.
pub(super) fn waiting_exception(fd: &VcpuFd) -> Option<u8> {
    let exception = fd.sync_regs().events.exception;
    ((exception.injected | exception.pending) != 0).then_some(exception.nr)
}
