//! The virtio header in front of each frame on a guest's socket, of which one thing is used: that a checksum is left to
//! the receiver.

use crate::checksum;
use crate::frame::{ETHERNET, Packet, Reason, TCP, Transport};

/// Bytes of the header (`virtio_net_hdr_v1`).
pub const HEADER: usize = 12;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// Where the checksum is in the header of a TCP segment and of a datagram.
const TCP_FIELD: u16 = 16;
const UDP_FIELD: u16 = 6;

/// The header of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The checksum of what begins at the first number's offset in the frame is left to the receiver, and belongs at the
    /// second number's offset from there; the sum of the pseudo header is there.
    pub partial: Option<(u16, u16)>,
    /// The host has found the checksum right.
    pub valid: bool,
}

impl Header {
    /// Reads the header of a guest's frame with this packet: a checksum that is left over must be that of the packet's
    /// own segment or datagram.
    pub fn of_guest(bytes: &[u8; HEADER], packet: Option<&Packet>) -> Result<Self, Reason> {
        if bytes[1] != 0 {
            // Large segments are not agreed on.
            return Err(Reason::TooLong);
        }
        if bytes[0] & NEEDS_CHECKSUM == 0 {
            return Ok(Self::default());
        }
        let field = match packet.map(|packet| packet.transport) {
            Some(Transport::Tcp(_)) => TCP_FIELD,
            Some(Transport::Udp(..)) => UDP_FIELD,
            _ => return Err(Reason::Malformed),
        };
        let start = packet.map_or(0, |packet| ETHERNET + packet.header) as u16;
        if (number(bytes, 6), number(bytes, 8)) != (start, field) {
            return Err(Reason::Malformed);
        }
        Ok(Self { partial: Some((start, field)), valid: false })
    }

    /// Reads the header of a packet that the host gave, which counts from the packet's beginning.
    pub fn of_host(bytes: &[u8; HEADER], packet: &Packet) -> Result<Self, Reason> {
        let mut shifted = *bytes;
        let start = number(bytes, 6).saturating_add(ETHERNET as u16);
        shifted[6..8].copy_from_slice(&start.to_le_bytes());
        let valid = bytes[0] & DATA_VALID != 0;
        Ok(Self { valid, ..Self::of_guest(&shifted, Some(packet))? })
    }

    /// The header as a guest reads it.
    pub fn for_guest(self) -> [u8; HEADER] {
        self.bytes(0)
    }

    /// The header as the host reads it, in front of a packet.
    pub fn for_host(self) -> [u8; HEADER] {
        self.bytes(ETHERNET as u16)
    }

    fn bytes(self, less: u16) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        if let Some((start, field)) = self.partial {
            bytes[0] = NEEDS_CHECKSUM;
            bytes[6..8].copy_from_slice(&(start - less).to_le_bytes());
            bytes[8..10].copy_from_slice(&field.to_le_bytes());
        } else if self.valid {
            bytes[0] = DATA_VALID;
        }
        bytes
    }

    /// Leaves the checksum of a TCP segment, which nobody has computed, to the receiver.
    pub fn leave_tcp(packet: &mut [u8], header: usize) -> Self {
        let Some(segment) = packet.len().checked_sub(header).filter(|&left| left >= 20) else {
            return Self::default();
        };
        let sum = checksum::pseudo(&packet[12..20], TCP, segment);
        let at = header + usize::from(TCP_FIELD);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Self { partial: Some(((ETHERNET + header) as u16, TCP_FIELD)), valid: false }
    }

    /// Completes the checksum of a packet, for whoever does not do it himself.
    pub fn complete(self, packet: &mut [u8]) {
        let Some((start, field)) = self.partial else { return };
        let start = usize::from(start) - ETHERNET;
        let at = start + usize::from(field);
        if at + 2 > packet.len() {
            return;
        }
        // UDP takes 0 for no checksum; it is sent as its other form.
        let sum = match checksum::complement(&packet[start..]) {
            0 => 0xffff,
            sum => sum,
        };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

fn number(bytes: &[u8; HEADER], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{datagram, packet, segment};
    use crate::frame::{UDP, parse_packet};
    use proptest::prelude::*;

    const A: [u8; 4] = [10, 0, 0, 2];
    const B: [u8; 4] = [10, 0, 0, 3];

    fn asks(start: u8, field: u8) -> [u8; HEADER] {
        [1, 0, 0, 0, 0, 0, start, 0, field, 0, 0, 0]
    }

    #[test]
    fn a_checksum_that_is_left_over_is_the_packets_own() {
        let tcp = parse_packet(&packet(TCP, A, B, &segment([1, 2], 0, 0, b"x"))).unwrap();
        let udp = parse_packet(&packet(UDP, A, B, &datagram([1, 2], b"x"))).unwrap();
        let header = Header::of_guest(&asks(34, 16), Some(&tcp)).unwrap();
        assert_eq!(header.for_guest(), asks(34, 16));
        assert_eq!(header.for_host(), asks(20, 16));
        assert_eq!(Header::of_host(&asks(20, 16), &tcp), Ok(header));
        assert!(Header::of_guest(&asks(34, 6), Some(&udp)).is_ok());
        for wrong in [asks(34, 6), asks(0, 16), asks(33, 16)] {
            assert_eq!(Header::of_guest(&wrong, Some(&tcp)), Err(Reason::Malformed));
        }
        assert_eq!(Header::of_guest(&asks(34, 16), None), Err(Reason::Malformed));
        let mut large = asks(34, 16);
        large[1] = 1;
        assert_eq!(Header::of_guest(&large, Some(&tcp)), Err(Reason::TooLong));
        let valid = Header { partial: None, valid: true };
        assert_eq!(Header::of_guest(&valid.for_guest(), Some(&tcp)), Ok(Header::default()));
        assert_eq!(Header::of_host(&valid.for_host(), &tcp), Ok(valid));
    }

    #[test]
    fn a_left_checksum_is_completed() {
        for payload in [&b""[..], b"odd", b"even"] {
            let mut bytes = packet(TCP, A, B, &segment([1, 2], 3, 4, payload));
            Header::leave_tcp(&mut bytes, 20).complete(&mut bytes);
            let length = bytes.len() - 20;
            let pseudo = checksum::pseudo(&bytes[12..20], TCP, length).to_be_bytes();
            assert_eq!(checksum::complement(&[&pseudo[..], &bytes[20..]].concat()), 0);
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_inside(bytes: [u8; HEADER], payload: Vec<u8>, udp: bool) {
            let payload = &payload[..payload.len().min(1400)];
            let inner = if udp { datagram([1, 2], payload) } else { segment([1, 2], 3, 4, payload) };
            let mut bytes_of = packet(if udp { UDP } else { TCP }, A, B, &inner);
            let read = parse_packet(&bytes_of).unwrap();
            if let Ok(header) = Header::of_guest(&bytes, Some(&read)) {
                header.complete(&mut bytes_of);
                prop_assert_eq!(Header::of_guest(&header.for_guest(), Some(&read)), Ok(header));
            }
        }
    }
}
