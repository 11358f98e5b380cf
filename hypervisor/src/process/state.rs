//! Segment bases and extended state of the child, to save and to restore.

use super::spawn::Ready;
use super::tracee::{Stop, Tracee};
use crate::state::{GUEST, LEGACY, Layout, PROTECTION_KEYS, mxcsr_mask};
use crate::{Error, ExtendedState, GuestRam, VcpuState};
use denali_arch::space::{Access, Region};
use libc::user_regs_struct;
use std::io;
use vm_memory::{Bytes, GuestAddress};

/// WRFSBASE RAX and WRGSBASE RAX, filled up by NOPs.
const SET_FS_BASE: [u8; 8] = [0xf3, 0x48, 0x0f, 0xae, 0xd0, 0x90, 0x90, 0x90];
/// See [`SET_FS_BASE`].
const SET_GS_BASE: [u8; 8] = [0xf3, 0x48, 0x0f, 0xae, 0xd8, 0x90, 0x90, 0x90];

/// Ends of the bases that ptrace sets: those of user addresses.
const USER_BASE_END: u64 = 0x7fff_ffff_f000;

/// State components that a guest's process can have anything in.
fn available() -> u64 {
    if !is_x86_feature_detected!("xsave") {
        return LEGACY;
    }
    // SAFETY: the processor has XGETBV, and its operating system has enabled it (detected); the register
    // exists.
    let enabled = unsafe { xgetbv() };
    enabled & (GUEST | PROTECTION_KEYS) & Layout::of_host().components()
}

/// The components the operating system has enabled (XCR0).
///
/// # Safety
/// The processor has XSAVE, and the operating system has enabled it.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: as the caller promises; register 0 always exists.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

/// Takes an XSAVE area apart. The rights of protection keys only count where the guest has changed them,
/// which `clean` shows: it has no such keys.
pub fn saved(area: &[u8], clean: &[u8]) -> (u64, ExtendedState) {
    let (available, layout) = (available(), Layout::of_host());
    let rights = |area| layout.take_apart(area, PROTECTION_KEYS);
    let changed = rights(area).parts() != rights(clean).parts();
    let keys = if changed { available & PROTECTION_KEYS } else { 0 };
    let components = available & GUEST | keys;
    (components, layout.take_apart(area, components))
}

/// Gives the child, which has not run since its set-up, everything of `state` but what `registers`, its
/// current ones, can hold: those are for the caller to set.
///
/// # Errors
/// When the state cannot be restored here, or the child is gone.
pub fn restore(
    child: &mut Ready,
    ram: &GuestRam,
    registers: &mut user_regs_struct,
    state: &VcpuState,
) -> Result<(), Error> {
    state.check(available(), mxcsr_mask())?;
    let mut area = child.clean().to_vec();
    let replaced = GUEST | state.components;
    Layout::of_host()
        .put_together(&state.extended, replaced, &mut area)
        .ok_or(Error::Misuse("extended processor state does not fit"))?;
    let set = child.tracee.restore_extended(&mut area);
    set.map_err(Error::host("set extended processor state"))?;
    let [fs, gs] = [state.fs_base, state.gs_base];
    let by_ptrace = |base| if base < USER_BASE_END { base } else { 0 };
    (registers.fs_base, registers.gs_base) = (by_ptrace(fs), by_ptrace(gs));
    child.tracee.set_all(registers).map_err(Error::host("set the guest's segment bases"))?;
    for (base, instruction) in [(fs, SET_FS_BASE), (gs, SET_GS_BASE)] {
        if base >= USER_BASE_END {
            let one = OneInstruction { tracee: &mut child.tracee, ram };
            let set = one.execute(&instruction, &user_regs_struct { rax: base, ..*registers });
            set.map_err(Error::host("have the guest's process set a segment base"))?;
        }
    }
    (registers.fs_base, registers.gs_base) = (fs, gs);
    Ok(())
}

/// Has the child execute an instruction of the monitor's: what ptrace refuses to do for it.
struct OneInstruction<'a> {
    tracee: &'a mut Tracee,
    ram: &'a GuestRam,
}

impl OneInstruction<'_> {
    /// Executes `code` with `registers`, in the place of the guest's first instructions, which it puts
    /// back. The child's general registers are left anyhow.
    fn execute(mut self, code: &[u8; 8], registers: &user_regs_struct) -> io::Result<()> {
        let executable = |region: &&Region| region.access == Access::ReadExecute;
        let text = self.ram.space().regions().iter().find(executable);
        let place = text.ok_or_else(|| io::Error::other("the guest has no code"))?.start;
        let mut kept = [0; 8];
        self.ram.read_slice(&mut kept, GuestAddress(place)).map_err(io::Error::other)?;
        self.write(place, code)?;
        let executed = self.step(&user_regs_struct { rip: place, ..*registers });
        self.write(place, &kept)?;
        executed
    }

    fn step(&mut self, registers: &user_regs_struct) -> io::Result<()> {
        self.tracee.set_general(registers)?;
        self.tracee.deliver(0)?;
        match self.tracee.wait_through()? {
            Stop::Signal(libc::SIGTRAP) => Ok(()),
            stop => Err(io::Error::other(format!("its process stopped: {stop:?}"))),
        }
    }

    /// Writes to code. Where the child has it from the image's file it gets a copy of its page;
    /// elsewhere it sees the memory it shares with the monitor.
    fn write(&mut self, place: u64, code: &[u8; 8]) -> io::Result<()> {
        let parts = self.ram.image().map_or(&[][..], |(_, parts)| parts);
        if parts.iter().any(|part| (part.start..part.end).contains(&place)) {
            return self.tracee.write_word(place, u64::from_le_bytes(*code));
        }
        self.ram.load(place, code).map_err(io::Error::other)
    }
}
