//! The registers of a guest, free of any back end's layout.

use denali_abi::frame::GPR_RSP;
use serde::{Deserialize, Serialize};

/// General registers, instruction pointer and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15: the order of
    /// [`Frame::gpr`](denali_abi::frame::Frame::gpr).
    pub gpr: [u64; 16],
    /// Address of the next instruction.
    pub rip: u64,
    /// Flags; only those of [`RFLAGS_VISIBLE`](denali_abi::frame::RFLAGS_VISIBLE) and bit 1.
    pub rflags: u64,
}

/// Names of the general registers in the order of [`Registers::gpr`].
pub const GPR_NAMES: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

impl Registers {
    /// The stack pointer.
    #[must_use]
    pub fn rsp(&self) -> u64 {
        self.gpr[GPR_RSP]
    }
}
