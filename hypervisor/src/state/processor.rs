//! What this processor has, for those who save and restore state on it.

use std::arch::x86_64::_fxsave64;

/// The bits of MXCSR it has.
#[must_use]
pub(crate) fn mxcsr_mask() -> u32 {
    #[repr(C, align(16))]
    struct Area([u8; 512]);
    /// What processors have that do not say.
    const FIRST_MASK: u32 = 0xffbf;
    let mut area = Area([0; 512]);
    // SAFETY: every x86-64 processor has FXSAVE, and the area has its size and alignment.
    unsafe { _fxsave64(area.0.as_mut_ptr()) };
    let told = area.0[28..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if told == 0 { FIRST_MASK } else { told }
}
