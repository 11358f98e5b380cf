//! The Internet checksum (RFC 1071).

/// The ones' complement of the ones' complement sum of `bytes`.
pub fn complement(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The sum of a pseudo header of IPv4, which is in the place of a checksum that is left to the receiver.
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u16 {
    fold(sum(addresses) + u64::from(protocol) + length as u64)
}

/// The sum of big-endian 16-bit words; an odd last byte counts as a high one.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    last + words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_its_checksum_the_sum_is_all_ones() {
        for mut bytes in [vec![0, 0, 0x12, 0x34, 0xff, 0xfe], vec![0, 0, 9, 8, 7]] {
            let sum = complement(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(complement(&bytes), 0);
        }
        assert_eq!(pseudo(&[10, 0, 0, 1, 10, 0, 0, 2], 6, 20), 0x1400 + 3 + 6 + 20);
    }
}
