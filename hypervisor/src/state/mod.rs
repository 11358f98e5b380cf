//! The state of a vCPU outside any machine: what a guest goes on with, wherever that may be.

mod area;
mod components;
mod extended;
mod hex;
mod processor;
#[cfg(test)]
mod tests;

pub(crate) use area::Layout;
pub(crate) use components::{GUEST, LEGACY, PROTECTION_KEYS};
pub use extended::ExtendedState;
pub(crate) use processor::mxcsr_mask;

use crate::Registers;
use serde::{Deserialize, Serialize};

/// Everything of a vCPU that its guest can see change: no back end's layout, nor a processor's.
///
/// The default is the state before the first instruction, with all registers 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuState {
    /// General registers, instruction pointer and flags.
    pub registers: Registers,
    /// Where FS starts.
    pub fs_base: u64,
    /// Where GS starts.
    pub gs_base: u64,
    /// A single-step trap is due before the next instruction.
    pub trap: bool,
    /// State components the guest's processor has (bits of XCR0), whether it has used them or not: it
    /// may have asked CPUID, and will not do so again.
    pub components: u64,
    /// x87, vector and mask registers.
    pub extended: ExtendedState,
}

/// Why a saved state cannot be restored here. Each message reads after "the saved state".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The guest's processor had something that this one lacks.
    #[error("needs {0}, which this processor does not have; restore it where it was saved")]
    Lacks(&'static str),
    /// State of a component nobody knows.
    #[error("has registers of an unknown kind ({0}); restore it with the Denali that saved it")]
    Unknown(u32),
    /// State of a component the guest's own processor lacked.
    #[error("has registers of components that it says its processor lacked; it is damaged")]
    Contradiction,
    /// Registers of one kind have another size than everywhere.
    #[error("has {found} bytes of {what} registers, which is not their size; it is damaged")]
    Size {
        /// The kind.
        what: &'static str,
        /// How many bytes.
        found: usize,
    },
    /// Components are not in the order of their numbers.
    #[error("has its kinds of registers twice or out of order; it is damaged")]
    Order,
    /// Bits in MXCSR that this processor lacks.
    #[error("has {0:#x} in MXCSR, whose bits this processor does not have; it is damaged")]
    Mxcsr(u32),
    /// A segment base no processor can hold.
    #[error("has {0:#x} as the base of a segment, which no processor can hold; it is damaged")]
    Base(u64),
}

impl VcpuState {
    /// Whether a guest with this state can go on where it has `available` components.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) fn check(&self, available: u64, mxcsr_mask: u32) -> Result<(), StateError> {
        for base in [self.fs_base, self.gs_base] {
            if !is_canonical(base) {
                return Err(StateError::Base(base));
            }
        }
        self.extended.check(mxcsr_mask)?;
        if self.extended.components() & !(self.components | LEGACY) != 0 {
            return Err(StateError::Contradiction);
        }
        match self.components & !(available | LEGACY) {
            0 => Ok(()),
            lacking => Err(StateError::Lacks(components::name(lacking.trailing_zeros()))),
        }
    }
}

/// Whether bits 63 to 47 are alike, as they are in every address of four-level page tables.
fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}
