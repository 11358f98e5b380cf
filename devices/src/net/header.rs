//! The virtio header of a frame: what a driver or a wire may ask for, checked before it is passed on.

use super::NET_HEADER;
use super::backend::Wanted;
use denali_abi::virtio::{
    NET_HEADER_DATA_VALID, NET_HEADER_GSO_NONE, NET_HEADER_GSO_TCPV4, NET_HEADER_GSO_TCPV6,
    NET_HEADER_NEEDS_CSUM,
};

/// Most bytes of a frame with a large segment: an IP packet of 64 KiB behind its Ethernet header.
pub(crate) const SEGMENT_MAX: usize = 65_550;

/// Bytes of an Ethernet header and of the shortest IP header: no transport header begins earlier.
const TRANSPORT_MIN: usize = super::ETHERNET_HEADER + 20;
/// Bytes of a TCP header without options.
const TCP_MIN: usize = 20;
/// Least bytes of data of a piece: what Linux sends at least. A segment cut into single bytes would cost
/// the host a thousand times what it costs the guest.
const PIECE_MIN: u16 = 36;
/// Where the checksum is in a TCP header.
const TCP_CHECKSUM: usize = 16;

/// The header of a frame (`virtio_net_hdr_v1`), as far as it means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// The checksum from the first number's offset on is left to the receiver, and belongs at the
    /// second number's offset from there.
    pub(crate) checksum: Option<(u16, u16)>,
    /// The checksum is good though it may not be there.
    pub(crate) valid: bool,
    /// A TCP segment larger than a packet.
    pub(crate) segment: Option<Segment>,
}

/// How a large TCP segment is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// `NET_HEADER_GSO_TCPV4` or `_TCPV6`.
    kind: u8,
    /// Bytes of the frame up to the data, or more: a hint how much of it to keep together.
    headers: u16,
    /// Most bytes of data of each piece.
    size: u16,
}

impl Header {
    /// The header of a frame of `frame` bytes; `None` when it asks for what is not in `allowed`, or
    /// points outside the frame. A frame may have `plain_max` bytes, one with a large segment
    /// [`SEGMENT_MAX`].
    pub(crate) fn parse(
        bytes: &[u8; NET_HEADER],
        frame: usize,
        allowed: Wanted,
        plain_max: usize,
    ) -> Option<Self> {
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (start, offset) = (number(6), number(8));
        let partial = bytes[0] & NET_HEADER_NEEDS_CSUM != 0;
        let inside = usize::from(start) + usize::from(offset) + 2 <= frame;
        if partial && !(allowed.checksums && inside) {
            return None;
        }
        let checksum = partial.then_some((start, offset));
        let allowed = match bytes[1] {
            NET_HEADER_GSO_NONE => true,
            NET_HEADER_GSO_TCPV4 => allowed.segments_v4,
            NET_HEADER_GSO_TCPV6 => allowed.segments_v6,
            _ => false,
        };
        let segment = (bytes[1] != NET_HEADER_GSO_NONE).then(|| Segment {
            kind: bytes[1],
            headers: number(2).max(start.saturating_add(TCP_MIN as u16)),
            size: number(4),
        });
        let valid = bytes[0] & NET_HEADER_DATA_VALID != 0;
        let header = Self { checksum, valid, segment };
        let max = if segment.is_some() { SEGMENT_MAX } else { plain_max };
        let fits = (1..=max).contains(&frame);
        (allowed && fits && header.segment_is_sound(frame)).then_some(header)
    }

    /// A large segment has data, and a TCP header in the frame whose checksum is left over.
    fn segment_is_sound(&self, frame: usize) -> bool {
        let Some(segment) = self.segment else { return true };
        let Some((start, offset)) = self.checksum else { return false };
        let tcp_end = usize::from(start) + TCP_MIN;
        usize::from(start) >= TRANSPORT_MIN
            && usize::from(offset) == TCP_CHECKSUM
            && segment.size >= PIECE_MIN
            && tcp_end < frame
            && usize::from(segment.headers) <= frame
    }

    /// The packets into which a frame of `frame` bytes is cut, if its TCP header has no options.
    pub(crate) fn packets(&self, frame: usize) -> u64 {
        let start = self.checksum.map_or(0, |(start, _)| usize::from(start));
        self.segment.map_or(1, |segment| {
            let data = frame.saturating_sub(start + TCP_MIN);
            data.div_ceil(usize::from(segment.size)) as u64
        })
    }

    /// The header as bytes; everything not asked for is 0, and the frame is in one buffer.
    pub(crate) fn bytes(&self) -> [u8; NET_HEADER] {
        let mut bytes = [0; NET_HEADER];
        if let Some((start, offset)) = self.checksum {
            bytes[0] |= NET_HEADER_NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&start.to_le_bytes());
            bytes[8..10].copy_from_slice(&offset.to_le_bytes());
        } else if self.valid {
            bytes[0] |= NET_HEADER_DATA_VALID;
        }
        if let Some(segment) = self.segment {
            bytes[1] = segment.kind;
            bytes[2..4].copy_from_slice(&segment.headers.to_le_bytes());
            bytes[4..6].copy_from_slice(&segment.size.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Wanted = Wanted { checksums: true, segments_v4: true, segments_v6: true };

    /// The header of a large segment: a TCP header at 34, cut after 54 bytes.
    fn large() -> [u8; NET_HEADER] {
        [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]
    }

    #[test]
    fn a_sound_segment_is_taken_and_given_as_it_was() {
        let header = Header::parse(&large(), 60_000, ALL, 1514).unwrap();
        assert_eq!(header.bytes(), large());
        assert_eq!(header.packets(60_000), (60_000_u64 - 54).div_ceil(1460));
        assert_eq!(Header::default().packets(60_000), 1);
    }

    #[test]
    fn what_a_segment_lacks_or_has_too_much_is_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = large();
            bytes[at] = value;
            bytes
        };
        for (why, bytes, frame) in [
            ("no checksum left over", with(0, 0), 60_000),
            ("UDP", with(1, 3), 60_000),
            ("congestion marks were not agreed on", with(1, 0x81), 60_000),
            ("headers longer than the frame", with(3, 0xff), 60_000),
            ("no data", large(), 54),
            ("pieces of no bytes", [1, 1, 54, 0, 0, 0, 34, 0, 16, 0, 0, 0], 60_000),
            ("tiny pieces", [1, 1, 54, 0, 35, 0, 34, 0, 16, 0, 0, 0], 60_000),
            ("a checksum outside the frame", with(7, 0xff), 60_000),
            ("a checksum elsewhere than in TCP", with(8, 6), 60_000),
            ("TCP inside the Ethernet header", with(6, 10), 60_000),
            ("too long", large(), SEGMENT_MAX + 1),
            ("too long for a plain frame", with(1, 0), 1515),
            ("empty", [0; NET_HEADER], 0),
        ] {
            assert_eq!(Header::parse(&bytes, frame, ALL, 1514), None, "{why}");
        }
        assert!(Header::parse(&large(), SEGMENT_MAX, ALL, 1514).is_some());
        let hinted = Header::parse(&with(2, 0), 60_000, ALL, 1514).unwrap();
        assert_eq!(hinted.bytes(), large(), "the hint is not relied on");
        let v6_only = Wanted { segments_v4: false, ..ALL };
        assert_eq!(Header::parse(&large(), 60_000, v6_only, 1514), None);
        assert!(Header::parse(&with(1, 4), 60_000, v6_only, 1514).is_some());
    }

    proptest! {
        #[test]
        fn what_is_accepted_lies_in_the_frame(bytes: [u8; NET_HEADER], frame in 0..70_000_usize) {
            if let Some(header) = Header::parse(&bytes, frame, ALL, 1514) {
                if let Some((start, offset)) = header.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame);
                }
                if let Some(segment) = header.segment {
                    prop_assert!(usize::from(segment.headers) <= frame && segment.size > 0);
                } else {
                    prop_assert!(frame <= 1514);
                }
                prop_assert!(header.packets(frame) >= 1);
                prop_assert_eq!(Header::parse(&header.bytes(), frame, ALL, 1514), Some(header));
            }
        }
    }
}
