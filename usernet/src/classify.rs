//! What a frame of the guest is, decided before anything else looks at it. Frames are untrusted.

use crate::Config;
use crate::flow::Flow;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ECHO_REQUEST: u8 = 8;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

/// A frame that passed, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// The guest asks for the gateway's MAC address.
    ArpRequest,
    /// A TCP segment: the IP packet, between whom, and whether it tries to connect.
    Tcp(&'a [u8], Flow, bool),
    /// A datagram: between whom, and what it carries.
    Udp(Flow, &'a [u8]),
    /// An echo request to the gateway.
    Echo(&'a [u8]),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Shorter than it says, or contradictory.
    Malformed,
    /// Under an address that is not the guest's.
    Spoofed,
    /// A protocol or destination the gateway has nothing to do with.
    Unsupported,
}

/// Looks a frame through.
pub fn classify<'a>(frame: &'a [u8], config: &Config) -> Result<Kind<'a>, Refusal> {
    let (header, payload) = frame.split_at_checked(ETHERNET_HEADER).ok_or(Refusal::Malformed)?;
    if header[6..12] != config.guest_mac {
        return Err(Refusal::Spoofed);
    }
    let to_all = header[..6] == [0xff; 6];
    let to_gateway = header[..6] == config.gateway_mac;
    let kind = [header[12], header[13]];
    match kind {
        ARP if to_all || to_gateway => classify_arp(payload, config),
        IPV4 if to_gateway => classify_ipv4(payload, config),
        _ => Err(Refusal::Unsupported),
    }
}

fn classify_arp<'a>(packet: &[u8], config: &Config) -> Result<Kind<'a>, Refusal> {
    let packet = packet.get(..28).ok_or(Refusal::Malformed)?;
    // Ethernet and IPv4 addresses, a request.
    if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return Err(Refusal::Unsupported);
    }
    if packet[8..14] != config.guest_mac || packet[14..18] != config.guest_ip.octets() {
        return Err(Refusal::Spoofed);
    }
    if packet[24..28] != config.gateway_ip.octets() {
        return Err(Refusal::Unsupported);
    }
    Ok(Kind::ArpRequest)
}

fn classify_ipv4<'a>(packet: &'a [u8], config: &Config) -> Result<Kind<'a>, Refusal> {
    let header = packet.get(..20).ok_or(Refusal::Malformed)?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // Frames may be padded after the packet, never the other way round.
    let packet = packet.get(..total).ok_or(Refusal::Malformed)?;
    let payload = packet.get(header_len..).ok_or(Refusal::Malformed)?;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(Refusal::Malformed);
    }
    if header[12..16] != config.guest_ip.octets() {
        return Err(Refusal::Spoofed);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if fragment {
        return Err(Refusal::Unsupported);
    }
    let to = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    match header[9] {
        TCP => classify_tcp(packet, payload, to),
        UDP => classify_udp(payload, to),
        ICMP if to == config.gateway_ip && payload.first() == Some(&ECHO_REQUEST) => {
            Ok(Kind::Echo(packet))
        }
        _ => Err(Refusal::Unsupported),
    }
}

fn classify_tcp<'a>(packet: &'a [u8], segment: &[u8], to: Ipv4Addr) -> Result<Kind<'a>, Refusal> {
    let header = segment.get(..20).ok_or(Refusal::Malformed)?;
    if to.octets()[0] == 0 || to.octets()[0] >= 224 {
        return Err(Refusal::Unsupported);
    }
    let connects = header[13] & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    Ok(Kind::Tcp(packet, flow(header, to), connects))
}

fn classify_udp(datagram: &[u8], to: Ipv4Addr) -> Result<Kind<'_>, Refusal> {
    let header = datagram.get(..8).ok_or(Refusal::Malformed)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = datagram.get(8..length).ok_or(Refusal::Malformed)?;
    let flow = flow(header, to);
    if flow.guest_port == 0 || flow.remote.port() == 0 {
        return Err(Refusal::Unsupported);
    }
    Ok(Kind::Udp(flow, payload))
}

/// The ends that the ports of a segment or datagram to `to` name.
fn flow(header: &[u8], to: Ipv4Addr) -> Flow {
    let port = |at| u16::from_be_bytes([header[at], header[at + 1]]);
    Flow { remote: SocketAddrV4::new(to, port(2)), guest_port: port(0) }
}

/// The answer to an ARP request: the gateway's MAC address. A whole frame.
pub fn arp_reply(config: &Config) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&config.guest_mac);
    frame[6..12].copy_from_slice(&config.gateway_mac);
    frame[12..14].copy_from_slice(&ARP);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    frame[22..28].copy_from_slice(&config.gateway_mac);
    frame[28..32].copy_from_slice(&config.gateway_ip.octets());
    frame[32..38].copy_from_slice(&config.guest_mac);
    frame[38..42].copy_from_slice(&config.guest_ip.octets());
    frame
}
