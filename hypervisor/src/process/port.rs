//! Decodes the port I/O instructions that fault in the guest's process.

use crate::Width;

/// Longest instruction the processor executes, in bytes.
pub const INSTRUCTION_MAX: usize = 15;

/// An IN or OUT instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port, or `None` where DX names it.
    pub port: Option<u8>,
    /// How much of RAX it transfers.
    pub width: Width,
    /// True for IN.
    pub input: bool,
    /// Bytes of the whole instruction.
    pub length: u64,
}

/// Decodes `code` as IN or OUT with any prefixes; `None` for everything else, and for the string
/// forms, which the guest contract leaves out.
#[must_use]
pub fn decode(code: &[u8]) -> Option<PortAccess> {
    let mut operand_16 = false;
    let mut rex = 0;
    for (index, &byte) in code.iter().enumerate().take(INSTRUCTION_MAX) {
        match byte {
            0x66 => (operand_16, rex) = (true, 0),
            // Segment, address size and repeat prefixes change nothing here, but end a REX's reach.
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 | 0xf2 | 0xf3 => rex = 0,
            0x40..=0x4f => rex = byte,
            0xe4..=0xe7 | 0xec..=0xef => {
                let wide = byte & 1 != 0;
                // REX.W takes precedence over the operand size prefix, and there are no 64-bit ports.
                let width = match (wide, operand_16 && rex & 8 == 0) {
                    (false, _) => Width::Byte,
                    (true, true) => Width::Word,
                    (true, false) => Width::Double,
                };
                let immediate = byte < 0xe8;
                let port = if immediate { Some(*code.get(index + 1)?) } else { None };
                let length = index + 1 + usize::from(immediate);
                let input = byte & 2 == 0;
                return (length <= INSTRUCTION_MAX).then_some(PortAccess {
                    port,
                    width,
                    input,
                    length: length as u64,
                });
            }
            _ => return None,
        }
    }
    None
}

/// RAX after an IN of `width` that read `data`: a byte or word leaves the rest alone, EAX clears it.
#[must_use]
pub fn merge(rax: u64, width: Width, data: u32) -> u64 {
    match width {
        Width::Byte => rax & !0xff | u64::from(data & 0xff),
        Width::Word => rax & !0xffff | u64::from(data & 0xffff),
        Width::Double => u64::from(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(code: &[u8]) -> Option<(Option<u8>, Width, bool, u64)> {
        decode(code).map(|io| (io.port, io.width, io.input, io.length))
    }

    #[test]
    fn every_form_decodes() {
        use Width::{Byte, Double, Word};
        assert_eq!(shape(&[0xee]), Some((None, Byte, false, 1)));
        assert_eq!(shape(&[0xef, 0x90]), Some((None, Double, false, 1)));
        assert_eq!(shape(&[0x66, 0xef]), Some((None, Word, false, 2)));
        assert_eq!(shape(&[0xec]), Some((None, Byte, true, 1)));
        assert_eq!(shape(&[0xed]), Some((None, Double, true, 1)));
        assert_eq!(shape(&[0x66, 0xed]), Some((None, Word, true, 2)));
        assert_eq!(shape(&[0xe6, 0x80]), Some((Some(0x80), Byte, false, 2)));
        assert_eq!(shape(&[0xe7, 0x80]), Some((Some(0x80), Double, false, 2)));
        assert_eq!(shape(&[0xe4, 0x71]), Some((Some(0x71), Byte, true, 2)));
        assert_eq!(shape(&[0x66, 0xe5, 0x71]), Some((Some(0x71), Word, true, 3)));
        assert_eq!(shape(&[0x48, 0xef]), Some((None, Double, false, 2)));
        assert_eq!(shape(&[0x66, 0x48, 0xef]), Some((None, Double, false, 3)));
        assert_eq!(shape(&[0x48, 0x66, 0xef]), Some((None, Word, false, 3)));
    }

    #[test]
    fn other_instructions_do_not() {
        for code in [&[0x6e][..], &[0xf3, 0x6f], &[0xf0, 0xee], &[0xf4], &[0xe6], &[0x66], &[]] {
            assert_eq!(decode(code), None, "{code:x?}");
        }
        let mut long = [0x66; 16];
        long[15] = 0xee;
        assert_eq!(decode(&long), None, "too long for the processor");
        long[14] = 0xe6;
        assert_eq!(decode(&long), None, "with its port too long for the processor");
    }

    #[test]
    fn only_the_width_is_merged() {
        let rax = 0x1122_3344_5566_7788;
        assert_eq!(merge(rax, Width::Byte, 0xffff_ffaa), 0x1122_3344_5566_77aa);
        assert_eq!(merge(rax, Width::Word, 0xffff_aabb), 0x1122_3344_5566_aabb);
        assert_eq!(merge(rax, Width::Double, 0x8899_aabb), 0x8899_aabb);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn what_decodes_is_within_the_bytes(code in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(io) = decode(&code) {
                prop_assert!(io.length as usize <= code.len().min(INSTRUCTION_MAX));
            }
        }
    }
}
