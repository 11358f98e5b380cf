//! The frame the monitor pushes when it enters a guest at `fault_entry` or `upcall_entry`.

use core::mem::{offset_of, size_of};

/// [`Frame::vector`] of an upcall; faults have the processor's vector, 0 to 31.
pub const UPCALL_VECTOR: u64 = 256;

/// What was interrupted, and why.
///
/// The monitor writes the frame at or below `RSP - RED_ZONE - 16`, aligned to 16 bytes, and enters the
/// guest with RDI and RSP both equal to the frame's address, all other general registers 0, and
/// RFLAGS = 2 (DF clear; ID unspecified). Vector registers are untouched: an entry that uses them
/// saves them.
///
/// To resume exactly, the entry puts `rflags` at `resume_rsp` and `rip` at `resume_rsp + 8` (the monitor
/// has done so already, and has set `resume_rsp` to the interrupted RSP - 144), reloads the general
/// registers from the frame, loads RSP from `resume_rsp`, and executes `popfq; ret 128`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Exception vector, or [`UPCALL_VECTOR`].
    pub vector: u64,
    /// The processor's error code; 0 where the vector has none.
    pub error_code: u64,
    /// The address whose access faulted, for vector 14; 0 otherwise.
    pub address: u64,
    /// Where `popfq; ret 128` continues the interrupted code: interrupted RSP - 144.
    pub resume_rsp: u64,
    /// General registers: RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15.
    pub gpr: [u64; 16],
    /// Address of the faulting or next instruction.
    pub rip: u64,
    /// The interrupted flags (CF, PF, AF, ZF, SF, TF, DF, OF, AC, ID and the fixed bit 1).
    pub rflags: u64,
}

/// Index of RDI in [`Frame::gpr`].
pub const GPR_RDI: usize = 5;

/// Index of RSP in [`Frame::gpr`].
pub const GPR_RSP: usize = 7;

/// Distance from the interrupted RSP down to [`Frame::resume_rsp`]: the red zone and two words.
pub const RESUME_DISTANCE: u64 = crate::layout::RED_ZONE + 16;

/// The flags a guest sees of itself; the others (IF, IOPL, RF, …) are unspecified and read as 0.
pub const RFLAGS_VISIBLE: u64 = 0x0024_0DD7;

const _: () = {
    assert!(size_of::<Frame>() == 176);
    assert!(offset_of!(Frame, resume_rsp) == 24);
    assert!(offset_of!(Frame, gpr) == 32);
    assert!(offset_of!(Frame, rip) == 160);
    assert!(offset_of!(Frame, rflags) == 168);
};
