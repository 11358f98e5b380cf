//! x87, vector and mask registers of a guest, free of any processor's layout.

use super::{StateError, components, hex};
use serde::{Deserialize, Serialize};

/// Bytes of the FXSAVE area that hold something: control words, then x87 and SSE registers.
pub(crate) const LEGACY_BYTES: usize = 416;

/// Where MXCSR lies in it.
const MXCSR: usize = 24;
/// And behind it the bits of MXCSR that a processor has, which are not the guest's.
const MXCSR_MASK: usize = 28;

/// Registers that XSAVE knows. Components that are as after a reset take no space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendedState {
    /// The first 416 bytes of an FXSAVE area.
    #[serde(with = "hex")]
    legacy: Vec<u8>,
    /// What came later, in the order of component numbers.
    parts: Vec<Part>,
}

/// One state component, as XSAVE stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Its bit in XCR0.
    pub component: u32,
    /// Its bytes.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

impl ExtendedState {
    /// The state with these parts; of `legacy`, what does not tell anything of the guest is cleared.
    #[must_use]
    pub(crate) fn new(mut legacy: Vec<u8>, parts: Vec<Part>) -> Self {
        legacy.resize(LEGACY_BYTES, 0);
        legacy[MXCSR_MASK..MXCSR_MASK + 4].fill(0);
        Self { legacy, parts }
    }

    /// The first [`LEGACY_BYTES`] of an FXSAVE area, once [`ExtendedState::check`] has passed.
    #[must_use]
    pub(crate) fn legacy(&self) -> &[u8] {
        &self.legacy
    }

    /// The later components that are not as after a reset.
    #[must_use]
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The components it has something of, x87 and SSE always (bits of XCR0).
    #[must_use]
    pub(crate) fn components(&self) -> u64 {
        let bit = |part: &Part| 1_u64.checked_shl(part.component).unwrap_or(0);
        self.parts.iter().fold(components::LEGACY, |set, part| set | bit(part))
    }

    /// Whether it is one that a processor can load which has `mxcsr_mask`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, mxcsr_mask: u32) -> Result<(), StateError> {
        if self.legacy.len() != LEGACY_BYTES {
            return Err(StateError::Size { what: "x87 and SSE", found: self.legacy.len() });
        }
        for part in &self.parts {
            let known =
                components::LATER.iter().find(|component| component.number == part.component);
            let component = known.ok_or(StateError::Unknown(part.component))?;
            if part.bytes.len() != component.bytes {
                return Err(StateError::Size { what: component.name, found: part.bytes.len() });
            }
        }
        if !self.parts.is_sorted_by(|one, next| one.component < next.component) {
            return Err(StateError::Order);
        }
        match self.mxcsr() & !mxcsr_mask {
            0 => Ok(()),
            _ => Err(StateError::Mxcsr(self.mxcsr())),
        }
    }

    fn mxcsr(&self) -> u32 {
        let bytes = self.legacy.get(MXCSR..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

impl Default for ExtendedState {
    /// As a guest starts: all exceptions masked, all registers 0.
    fn default() -> Self {
        let mut legacy = vec![0; LEGACY_BYTES];
        legacy[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        legacy[MXCSR..MXCSR_MASK].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Self { legacy, parts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 0xffff;

    fn with(parts: &[(u32, usize)]) -> ExtendedState {
        let part = |&(component, length): &(u32, usize)| Part { component, bytes: vec![1; length] };
        ExtendedState { parts: parts.iter().map(part).collect(), ..ExtendedState::default() }
    }

    #[test]
    fn sizes_order_and_numbers_are_checked() {
        for sound in [&[][..], &[(2, 256)], &[(2, 256), (5, 64), (6, 512), (7, 1024), (9, 8)]] {
            assert_eq!(with(sound).check(MASK), Ok(()));
        }
        for (parts, error) in [
            (&[(2, 255)][..], StateError::Size { what: "AVX", found: 255 }),
            (&[(7, 0)], StateError::Size { what: "AVX-512", found: 0 }),
            (&[(5, 64), (2, 256)], StateError::Order),
            (&[(2, 256), (2, 256)], StateError::Order),
            (&[(18, 8192)], StateError::Unknown(18)),
            (&[(u32::MAX, 1)], StateError::Unknown(u32::MAX)),
        ] {
            assert_eq!(with(parts).check(MASK), Err(error));
        }
        let short = ExtendedState { legacy: vec![0; 27], parts: Vec::new() };
        assert_eq!(short.check(MASK), Err(StateError::Size { what: "x87 and SSE", found: 27 }));
    }

    #[test]
    fn reserved_bits_of_mxcsr_are_refused() {
        let mut state = ExtendedState::default();
        state.legacy[MXCSR + 2] = 2;
        assert_eq!(state.check(MASK), Err(StateError::Mxcsr(0x2_1f80)));
        assert_eq!(state.check(0x2_ffff), Ok(()), "another processor has that bit");
    }
}
