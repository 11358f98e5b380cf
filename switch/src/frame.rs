//! What a frame is: all that the switch looks at, read once, and nothing believed that the bytes do not bear out.

use std::net::Ipv4Addr;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Bytes of an IPv4 header without options.
pub const IP_HEADER: usize = 20;

/// Bytes of an ARP packet for Ethernet and IPv4.
pub const ARP: usize = 28;

/// Numbers of protocols over IPv4.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// Flags of TCP segments.
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;

const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_ARP: [u8; 2] = [0x08, 0x06];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Why a packet is dropped: the fields of [`Dropped`](crate::protocol::Dropped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Malformed,
    Spoofed,
    TooLong,
    Ipv6,
    Protocol,
    Broadcast,
    Arp,
    Forbidden,
    Unknown,
    NoUplink,
    NotWaking,
    Repeated,
    Full,
    Crowded,
    Aged,
    Refused,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The receiver's MAC address.
    pub to: [u8; 6],
    /// The sender's.
    pub from: [u8; 6],
    /// What is in it.
    pub content: Content,
}

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An ARP packet for Ethernet and IPv4.
    Arp(Arp),
    /// A packet of IPv4.
    Ip(Packet),
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether it asks; otherwise it answers.
    pub asks: bool,
    pub sender_mac: [u8; 6],
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// A packet of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Bytes of its header.
    pub header: usize,
    /// Bytes of it all.
    pub length: usize,
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp(Segment),
    /// Source and destination port of a datagram.
    Udp(u16, u16),
    /// An echo request.
    Echo,
    /// A piece of a packet, or something else.
    Other,
}

/// The header of a TCP segment, as far as it tells one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub flags: u8,
    /// Bytes of data.
    pub data: u16,
}

/// Reads a frame.
pub fn parse(bytes: &[u8]) -> Result<Frame, Reason> {
    let (header, payload) = bytes.split_at_checked(ETHERNET).ok_or(Reason::Malformed)?;
    let content = match [header[12], header[13]] {
        TYPE_IPV4 => Content::Ip(parse_packet(payload)?),
        TYPE_ARP => Content::Arp(parse_arp(payload)?),
        TYPE_IPV6 => return Err(Reason::Ipv6),
        _ => return Err(Reason::Protocol),
    };
    Ok(Frame { to: array(header, 0), from: array(header, 6), content })
}

/// Reads an ARP packet; there may be padding behind it.
fn parse_arp(bytes: &[u8]) -> Result<Arp, Reason> {
    let bytes = bytes.get(..ARP).ok_or(Reason::Malformed)?;
    let asks = match bytes[..8] {
        [0, 1, 8, 0, 6, 4, 0, 1] => true,
        [0, 1, 8, 0, 6, 4, 0, 2] => false,
        _ => return Err(Reason::Arp),
    };
    Ok(Arp {
        asks,
        sender_mac: array(bytes, 8),
        sender: address(bytes, 14),
        target: address(bytes, 24),
    })
}

/// Reads a packet of IPv4; there may be padding behind it.
pub fn parse_packet(bytes: &[u8]) -> Result<Packet, Reason> {
    let first = *bytes.first().ok_or(Reason::Malformed)?;
    match first >> 4 {
        4 => {}
        6 => return Err(Reason::Ipv6),
        _ => return Err(Reason::Malformed),
    }
    let header = usize::from(first & 0xf) * 4;
    if header < IP_HEADER || bytes.len() < header {
        return Err(Reason::Malformed);
    }
    // Options can make routers send a packet elsewhere than its destination says.
    if header > IP_HEADER {
        return Err(Reason::Protocol);
    }
    let length = usize::from(number(bytes, 2));
    let payload = bytes.get(header..length).ok_or(Reason::Malformed)?;
    let fragment = number(bytes, 6) & 0x3fff != 0;
    let transport = if fragment { Transport::Other } else { parse_transport(bytes[9], payload)? };
    let (source, destination) = (address(bytes, 12), address(bytes, 16));
    Ok(Packet { source, destination, header, length, transport })
}

fn parse_transport(protocol: u8, bytes: &[u8]) -> Result<Transport, Reason> {
    match protocol {
        TCP => {
            let fixed = bytes.get(..20).ok_or(Reason::Malformed)?;
            let header = usize::from(fixed[12] >> 4) * 4;
            let data = bytes.len().checked_sub(header).ok_or(Reason::Malformed)?;
            if header < 20 {
                return Err(Reason::Malformed);
            }
            Ok(Transport::Tcp(Segment {
                source_port: number(fixed, 0),
                destination_port: number(fixed, 2),
                sequence: u32::from_be_bytes(array(fixed, 4)),
                flags: fixed[13],
                // A packet has no more than 65,535 bytes.
                data: data as u16,
            }))
        }
        UDP => {
            let header = bytes.get(..8).ok_or(Reason::Malformed)?;
            let length = usize::from(number(header, 4));
            if length < 8 || length > bytes.len() {
                return Err(Reason::Malformed);
            }
            Ok(Transport::Udp(number(header, 0), number(header, 2)))
        }
        ICMP if bytes.len() < 8 => Err(Reason::Malformed),
        ICMP if bytes[0] == 8 && bytes[1] == 0 => Ok(Transport::Echo),
        _ => Ok(Transport::Other),
    }
}

/// So many bytes at a place where there are as many.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(array::<4>(bytes, at))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The MAC address that means everybody.
    pub const EVERYBODY: [u8; 6] = [0xff; 6];

    /// A packet from one address to another.
    pub fn packet(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        bytes.extend((20 + payload.len() as u16).to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        bytes.extend(from);
        bytes.extend(to);
        let sum = crate::checksum::complement(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// A TCP segment between two ports.
    pub fn segment(ports: [u16; 2], sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(data);
        bytes
    }

    /// A datagram between two ports, without checksum.
    pub fn datagram(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
        let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        bytes.extend((8 + data.len() as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(data);
        bytes
    }

    /// A frame with a packet.
    pub fn frame(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
        [&to[..], &from[..], &TYPE_IPV4, packet].concat()
    }

    /// A frame with an ARP packet: operation, sender, target.
    pub fn arp(operation: u8, from: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
        let mut bytes = [&EVERYBODY[..], &from.0, &TYPE_ARP].concat();
        bytes.extend([0, 1, 8, 0, 6, 4, 0, operation]);
        bytes.extend(from.0);
        bytes.extend(from.1);
        bytes.extend([0; 6]);
        bytes.extend(target);
        bytes
    }

    const A: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
    const B: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 3], [10, 0, 0, 3]);

    #[test]
    fn segments_are_read() {
        let bytes = frame(B.0, A.0, &packet(TCP, A.1, B.1, &segment([1234, 80], 7, SYN, b"data")));
        let read = parse(&bytes).unwrap();
        assert_eq!((read.to, read.from), (B.0, A.0));
        let Content::Ip(packet) = read.content else { panic!() };
        assert_eq!((packet.source, packet.destination), (A.1.into(), B.1.into()));
        let Transport::Tcp(segment) = packet.transport else { panic!() };
        assert_eq!((segment.source_port, segment.destination_port), (1234, 80));
        assert_eq!((segment.sequence, segment.flags, segment.data), (7, SYN, 4));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        for payload in [segment([1, 2], 0, SYN, b""), datagram([1, 2], b"x")] {
            let protocol = if payload.len() == 20 { TCP } else { UDP };
            let whole = frame(B.0, A.0, &packet(protocol, A.1, B.1, &payload));
            for length in 0..whole.len() {
                assert_eq!(parse(&whole[..length]), Err(Reason::Malformed), "{length}");
            }
            assert!(parse(&[&whole[..], &[0; 9]].concat()).is_ok(), "padding is none's concern");
        }
    }

    #[test]
    fn fragments_options_and_other_protocols_are_known_as_such() {
        let mut bytes = packet(TCP, A.1, B.1, &segment([1, 2], 0, SYN, b""));
        bytes[6] = 0x20;
        assert_eq!(parse_packet(&bytes).unwrap().transport, Transport::Other);
        bytes[0] = 0x46;
        assert_eq!(parse_packet(&bytes), Err(Reason::Protocol));
        bytes[0] = 0x60;
        assert_eq!(parse_packet(&bytes), Err(Reason::Ipv6));
        let mut ipv6 = frame(B.0, A.0, &[0x60; 40]);
        ipv6[12..14].copy_from_slice(&TYPE_IPV6);
        assert_eq!(parse(&ipv6), Err(Reason::Ipv6));
        ipv6[12..14].copy_from_slice(&[0x81, 0]);
        assert_eq!(parse(&ipv6), Err(Reason::Protocol));
    }

    #[test]
    fn arp_is_read() {
        let Content::Arp(read) = parse(&arp(1, A, B.1)).unwrap().content else { panic!() };
        let sender = A.1.into();
        let expected = Arp { asks: true, sender_mac: A.0, sender, target: B.1.into() };
        assert_eq!(read, expected);
        assert_eq!(parse(&arp(3, A, B.1)), Err(Reason::Arp));
        assert_eq!(parse(&arp(1, A, B.1)[..40]), Err(Reason::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0..4_usize) {
            let mut bytes = bytes;
            if bytes.len() > ETHERNET {
                let kinds = [TYPE_IPV4, TYPE_ARP, TYPE_IPV6, [bytes[12], bytes[13]]];
                bytes[12..14].copy_from_slice(&kinds[kind]);
            }
            if let Ok(Frame { content: Content::Ip(packet), .. }) = parse(&bytes) {
                prop_assert!(packet.header >= IP_HEADER && packet.header <= packet.length);
                prop_assert!(ETHERNET + packet.length <= bytes.len());
            }
        }
    }
}
