//! TCP and UDP checksums of IPv4 frames, as far as they are not left to the device.

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
const IPV4: usize = 20;
/// EtherType of IPv4.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a frame's TCP or UDP segment is.
struct Segment {
    /// Offset of its header in the frame.
    start: usize,
    /// End of the segment in the frame; what follows is Ethernet padding.
    end: usize,
    /// Offset of the checksum in its header.
    checksum: usize,
    protocol: u8,
}

/// Finds the TCP or UDP segment of an unfragmented IPv4 frame.
fn segment(frame: &[u8]) -> Option<Segment> {
    if frame.len() < ETHERNET + IPV4 || frame[12..14] != ETHERTYPE_IPV4 {
        return None;
    }
    let header = usize::from(frame[ETHERNET] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([frame[ETHERNET + 2], frame[ETHERNET + 3]]));
    let fragment = u16::from_be_bytes([frame[ETHERNET + 6], frame[ETHERNET + 7]]) & 0x3fff;
    let protocol = frame[ETHERNET + 9];
    let (checksum, least) = match protocol {
        TCP => (16, 20),
        UDP => (6, 8),
        _ => return None,
    };
    let (start, end) = (ETHERNET + header, ETHERNET + total);
    let fits = header >= IPV4 && start + least <= end && end <= frame.len();
    (fits && fragment == 0).then_some(Segment { start, end, checksum, protocol })
}

/// Prepares a frame for a device that completes the checksum: puts the sum of the pseudo header
/// where the checksum goes. Returns where the device is to start, and the checksum's offset from
/// there; `None` if there is nothing to complete.
pub(crate) fn leave_to_device(frame: &mut [u8]) -> Option<(u16, u16)> {
    let segment = segment(frame)?;
    let sum = fold(pseudo_header(frame, &segment));
    let place = segment.start + segment.checksum;
    frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    Some((segment.start as u16, segment.checksum as u16))
}

/// Where the data of the TCP segment begins whose header is at `start` in the frame.
pub(crate) fn tcp_data(frame: &[u8], start: u16) -> u16 {
    let offset = frame.get(usize::from(start) + 12).map_or(0, |&byte| u16::from(byte >> 4) * 4);
    start + offset
}

/// Whether the TCP or UDP checksum of a frame that nobody has verified is right. Frames without
/// one pass.
pub(crate) fn is_right(frame: &[u8]) -> bool {
    let Some(segment) = segment(frame) else {
        return true;
    };
    let place = segment.start + segment.checksum;
    if segment.protocol == UDP && frame[place..place + 2] == [0, 0] {
        return true; // UDP without a checksum
    }
    let sum = pseudo_header(frame, &segment) + words(&frame[segment.start..segment.end]);
    fold(sum) == 0xffff
}

/// Whether a frame opens a TCP connection: SYN without ACK.
pub(crate) fn opens_connection(frame: &[u8]) -> bool {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    segment(frame).is_some_and(|segment| {
        segment.protocol == TCP && frame[segment.start + 13] & (SYN | ACK) == SYN
    })
}

fn pseudo_header(frame: &[u8], segment: &Segment) -> u64 {
    let addresses = &frame[ETHERNET + 12..ETHERNET + 20];
    words(addresses) + u64::from(segment.protocol) + (segment.end - segment.start) as u64
}

/// Sum of big-endian 16-bit words; an odd last byte counts as the high half of one.
fn words(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|&pair| u64::from(u16::from_be_bytes(pair))).sum();
    sum + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

/// Ones' complement sum in 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpAddress, Ipv4Address, Ipv4Packet, TcpPacket, UdpPacket, UdpRepr};

    fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + IPV4];
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        frame.extend_from_slice(payload);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len((IPV4 + payload.len()) as u16);
        packet.set_next_header(protocol.into());
        packet.set_src_addr(SOURCE);
        packet.set_dst_addr(DESTINATION);
        packet.fill_checksum();
        frame
    }

    const SOURCE: Ipv4Address = Ipv4Address::new(10, 1, 2, 3);
    const DESTINATION: Ipv4Address = Ipv4Address::new(192, 168, 200, 4);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tcp_checksums_agree_with_smoltcp(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut segment = vec![0; 20];
            segment.extend_from_slice(&data);
            let mut packet = TcpPacket::new_unchecked(&mut segment[..]);
            packet.set_header_len(20);
            packet.fill_checksum(&IpAddress::Ipv4(SOURCE), &IpAddress::Ipv4(DESTINATION));
            let right = frame(TCP, &segment);
            prop_assert!(is_right(&right));

            let mut left = right.clone();
            prop_assert_eq!(leave_to_device(&mut left), Some((34, 16)));
            // Completing it as a device does gives the same frame.
            let sum = !fold(words(&left[34..]));
            left[50..52].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(&left, &right);

            let mut wrong = right;
            let last = wrong.len() - 1;
            wrong[last] ^= 0x10;
            prop_assert!(!is_right(&wrong));
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if bytes.len() > 14 {
                bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4);
            }
            is_right(&bytes);
            opens_connection(&bytes);
            leave_to_device(&mut bytes);
        }
    }

    #[test]
    fn udp_without_checksum_passes() {
        let mut datagram = vec![0; 12];
        let repr = UdpRepr { src_port: 1, dst_port: 2 };
        repr.emit(
            &mut UdpPacket::new_unchecked(&mut datagram[..]),
            &SOURCE.into(),
            &DESTINATION.into(),
            4,
            |payload| payload.copy_from_slice(b"ping"),
            &ChecksumCapabilities::ignored(),
        );
        assert!(is_right(&frame(UDP, &datagram)));
    }

    #[test]
    fn only_a_first_syn_opens_a_connection() {
        let mut segment = [0; 20];
        for (flags, opens) in [(2, true), (18, false), (16, false), (0, false)] {
            segment[13] = flags;
            assert_eq!(opens_connection(&frame(TCP, &segment)), opens);
        }
    }
}
