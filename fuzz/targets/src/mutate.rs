//! Inputs made of others, always the same ones: what a fuzzer does, without its eyes.

/// Numbers that look random, from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number, below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}

/// Values at which parsers tend to fail, as little-endian numbers.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX];

/// An input from two others: a few places of the first are changed, and sometimes a part of the other is put in.
#[must_use]
pub fn mutated(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(4) {
        change(&mut bytes, other, numbers);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    let some = numbers.below(16) + 1;
    match numbers.below(8) {
        0 => bytes.truncate(at),
        1 => {
            let end = (at + some).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            let end = (at + some).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
        3 if !other.is_empty() => {
            let start = numbers.below(other.len());
            let end = (start + 4 * some).min(other.len());
            bytes.splice(at..at, other[start..end].iter().copied());
        }
        4 | 5 => {
            let edge = EDGES[numbers.below(EDGES.len())].to_le_bytes();
            let width = 1 << numbers.below(4);
            bytes.iter_mut().skip(at).zip(&edge[..width]).for_each(|(byte, &new)| *byte = new);
        }
        6 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (some % 8)),
        _ => {
            for byte in bytes.iter_mut().skip(at).take(1) {
                *byte = byte.wrapping_add(some as u8);
            }
        }
    }
}
