//! Packets that the gateway makes itself: datagrams for the guest, and word that one found nobody.

use crate::flow::Flow;
use smoltcp::wire::{IPV4_HEADER_LEN, UDP_HEADER_LEN};
use std::net::Ipv4Addr;

/// Bytes before a datagram's payload.
pub const DATAGRAM_HEADERS: usize = IPV4_HEADER_LEN + UDP_HEADER_LEN;

/// Bytes of a packet that says that a datagram found nobody: two IP headers, the message's own header,
/// and the datagram's.
pub const UNREACHABLE: usize = 2 * IPV4_HEADER_LEN + ICMP_HEADER_LEN + UDP_HEADER_LEN;

const ICMP_HEADER_LEN: usize = 8;
const ICMP: u8 = 1;
const UDP: u8 = 17;

/// Why a datagram went nowhere, by its number in ICMP messages (RFC 792, RFC 1812).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Nobody listens.
    Port = 3,
    /// It is not allowed.
    Prohibited = 13,
}

/// Writes the headers of a datagram that a peer of `flow` sends to the guest at `guest`. The checksum of
/// the datagram is left out, as IPv4 allows it.
pub fn write_datagram_headers(packet: &mut [u8], flow: &Flow, guest: Ipv4Addr) {
    let length = packet.len();
    write_ip_header(packet, length, UDP, *flow.remote.ip(), guest);
    let datagram = &mut packet[IPV4_HEADER_LEN..DATAGRAM_HEADERS];
    write_udp_header(datagram, flow.remote.port(), flow.guest_port, length - IPV4_HEADER_LEN);
}

/// Writes the message that a datagram of the guest at `guest` to a peer of `flow` went nowhere, in the
/// name of `from`.
pub fn write_unreachable(
    packet: &mut [u8; UNREACHABLE],
    reason: Reason,
    from: Ipv4Addr,
    flow: &Flow,
    guest: Ipv4Addr,
) {
    write_ip_header(packet, UNREACHABLE, ICMP, from, guest);
    let message = &mut packet[IPV4_HEADER_LEN..];
    message[..ICMP_HEADER_LEN].fill(0);
    (message[0], message[1]) = (3, reason as u8);
    // The datagram was not kept; its headers as far as a stack looks at them are these.
    let (_, datagram) = message.split_at_mut(ICMP_HEADER_LEN);
    write_ip_header(datagram, DATAGRAM_HEADERS, UDP, guest, *flow.remote.ip());
    let udp = &mut datagram[IPV4_HEADER_LEN..];
    write_udp_header(udp, flow.guest_port, flow.remote.port(), UDP_HEADER_LEN);
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

fn write_ip_header(packet: &mut [u8], length: usize, protocol: u8, from: Ipv4Addr, to: Ipv4Addr) {
    const DO_NOT_FRAGMENT: u8 = 0x40;
    const HOPS: u8 = 64;
    let header = &mut packet[..IPV4_HEADER_LEN];
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    header[6] = DO_NOT_FRAGMENT;
    (header[8], header[9]) = (HOPS, protocol);
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn write_udp_header(header: &mut [u8], from: u16, to: u16, length: usize) {
    header[..2].copy_from_slice(&from.to_be_bytes());
    header[2..4].copy_from_slice(&to.to_be_bytes());
    header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    header[6..8].fill(0);
}

/// The Internet checksum (RFC 1071) of an even number of bytes whose own checksum is 0.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Packet, Ipv4Repr, UdpPacket,
        UdpRepr,
    };

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn flow() -> Flow {
        Flow { remote: "192.0.2.7:4242".parse().unwrap(), guest_port: 5000 }
    }

    #[test]
    fn datagrams_are_what_a_stack_expects() {
        let mut bytes = vec![0xff; DATAGRAM_HEADERS + 3];
        bytes[DATAGRAM_HEADERS..].copy_from_slice(b"abc");
        write_datagram_headers(&mut bytes, &flow(), GUEST);
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap();
        assert_eq!((ip.src_addr, ip.dst_addr), (Ipv4Addr::new(192, 0, 2, 7), GUEST));
        let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
        let (from, to) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
        let udp = UdpRepr::parse(&datagram, &from, &to, &ChecksumCapabilities::default()).unwrap();
        assert_eq!((udp.src_port, udp.dst_port, datagram.payload()), (4242, 5000, &b"abc"[..]));
    }

    #[test]
    fn messages_that_nobody_is_there_name_the_flow() {
        let mut bytes = [0xff; UNREACHABLE];
        write_unreachable(&mut bytes, Reason::Port, GATEWAY, &flow(), GUEST);
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap();
        let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        let parsed = Icmpv4Repr::parse(&message, &ChecksumCapabilities::default()).unwrap();
        let Icmpv4Repr::DstUnreachable { reason, header, data } = parsed else { panic!() };
        assert_eq!(reason, Icmpv4DstUnreachable::PortUnreachable);
        assert_eq!((header.src_addr, header.dst_addr), (GUEST, Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(data[..4], [0x13, 0x88, 0x10, 0x92]);
    }
}
