//! Transport checksums, for guests that want them complete.

use super::ETHERNET_HEADER;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the TCP or UDP checksum of an IPv4 frame belongs, and what it must be; `None` for a frame
/// that has none (another protocol, a fragment, or malformed).
pub fn transport_checksum(frame: &[u8]) -> Option<(usize, [u8; 2])> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    if frame[12..14] != [0x08, 0x00] || ip.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(ip[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?));
    let fragment = u16::from_be_bytes(ip.get(6..8)?.try_into().ok()?) & 0x3fff;
    let payload = ip.get(header.max(20)..total)?;
    let protocol = *ip.get(9)?;
    let field = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    if header < 20 || fragment != 0 || payload.len() < field + 2 {
        return None;
    }
    let pseudo = sum(&ip[12..20]) + u64::from(protocol) + payload.len() as u64;
    let folded = !fold(pseudo + sum(&payload[..field]) + sum(&payload[field + 2..]));
    let checksum = if protocol == UDP && folded == 0 { 0xffff } else { folded };
    Some((ETHERNET_HEADER + header + field, checksum.to_be_bytes()))
}

/// The ones' complement of the ones' complement sum of `bytes`: what belongs where the sum of the
/// pseudo header was. 0 is sent as its other form, since UDP takes 0 for no checksum.
pub(crate) fn complement(bytes: &[u8]) -> u16 {
    match !fold(sum(bytes)) {
        0 => 0xffff,
        sum => sum,
    }
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

    /// A SYN from 10.0.0.1:1234 to 10.0.0.2:80 with the given last two bytes of the source port.
    fn syn(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([4, 210, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        for payload in [&b""[..], b"odd", b"even"] {
            let mut frame = syn(payload);
            let (at, checksum) = transport_checksum(&frame).unwrap();
            assert_eq!(at, 14 + 20 + 16);
            frame[at..at + 2].copy_from_slice(&checksum);
            let segment = &frame[34..];
            let pseudo = sum(&frame[26..34]) + u64::from(TCP) + segment.len() as u64;
            assert_eq!(fold(pseudo + sum(segment)), 0xffff);
        }
    }

    #[test]
    fn what_is_not_tcp_or_udp_has_none() {
        assert_eq!(transport_checksum(&[]), None);
        let whole = syn(b"x");
        for length in 0..whole.len() {
            assert_eq!(transport_checksum(&whole[..length]), None);
        }
        let mut fragment = whole.clone();
        fragment[20] = 0x20;
        assert_eq!(transport_checksum(&fragment), None);
        let mut icmp = whole;
        icmp[23] = 1;
        assert_eq!(transport_checksum(&icmp), None);
    }
}
