//! The ChaCha20 block function of RFC 8439, from which `entropy` makes random bytes.

/// "expand 32-byte k", the constant words of the state.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// One block of the key stream: 64 bytes.
pub(crate) fn block(key: &[u8; 32], counter: u32, nonce: [u32; 3]) -> [u8; 64] {
    let mut state = [0_u32; 16];
    state[..4].copy_from_slice(&CONSTANTS);
    for (word, bytes) in state[4..12].iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    state[12] = counter;
    state[13..].copy_from_slice(&nonce);

    let mut mixed = state;
    for _ in 0..10 {
        for (a, b, c, d) in [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)] {
            quarter_round(&mut mixed, a, b, c, d);
        }
        for (a, b, c, d) in [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)] {
            quarter_round(&mut mixed, a, b, c, d);
        }
    }

    let mut output = [0; 64];
    for (index, bytes) in output.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *bytes = mixed[index].wrapping_add(state[index]).to_le_bytes();
    }
    output
}

fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, section 2.3.2.
    #[test]
    fn test_vector_of_the_standard() {
        let key: [u8; 32] = core::array::from_fn(|index| index as u8);
        let output = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(
            output[..16],
            [
                0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20,
                0x71, 0xc4
            ]
        );
        assert_eq!(output[48..52], [0xb5, 0x12, 0x9c, 0xd1]);
        assert_eq!(output[60..], [0xa2, 0x50, 0x3c, 0x4e]);
    }
}
