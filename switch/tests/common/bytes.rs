//! Frames byte by byte, written and read without the switch's own code.

/// Bytes of the header in front of a frame.
pub const HEADER: usize = 12;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// Addresses of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub mac: [u8; 6],
    pub address: [u8; 4],
}

/// A frame with a packet of IPv4.
pub fn packet(from: Ends, to: Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.address);
    header.extend(to.address);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to.mac[..], &from.mac, &[0x08, 0x00], &header, payload].concat()
}

/// A frame with a datagram.
pub fn datagram(from: Ends, to: Ends, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    bytes.extend((8 + data.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    let sum = transport_sum(from, to, UDP, &bytes);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, UDP, &bytes)
}

/// A frame with a TCP segment.
pub fn segment(from: Ends, to: Ends, ports: [u16; 2], sequence: u32, flags: u8) -> Vec<u8> {
    let mut bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = transport_sum(from, to, TCP, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, TCP, &bytes)
}

/// A frame that asks who has an address, or (2) says so.
pub fn arp(operation: u8, from: Ends, target: [u8; 4]) -> Vec<u8> {
    let link = [&[0xff; 6][..], &from.mac, &[0x08, 0x06]].concat();
    let asks = [0, 1, 8, 0, 6, 4, 0, operation];
    [&link[..], &asks, &from.mac, &from.address, &[0; 6], &target].concat()
}

fn transport_sum(from: Ends, to: Ends, protocol: u8, bytes: &[u8]) -> u16 {
    let length = (bytes.len() as u16).to_be_bytes();
    let pseudo = [&from.address[..], &to.address, &[0, protocol], &length].concat();
    checksum(&[&pseudo[..], bytes].concat())
}

/// The sum of a pseudo header, as it is in the place of a checksum that is left over.
pub fn pseudo(from: Ends, to: Ends, protocol: u8, length: u16) -> [u8; 2] {
    let length = length.to_be_bytes();
    let pseudo = [&from.address[..], &to.address, &[0, protocol], &length].concat();
    (!checksum(&pseudo)).to_be_bytes()
}

/// 0 if the checksum of a frame's segment or datagram is right.
pub fn verify(frame: &[u8]) -> u16 {
    let payload = &frame[34..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))];
    let length = (payload.len() as u16).to_be_bytes();
    checksum(&[&frame[26..34], &[0, frame[23]], &length, payload].concat())
}

/// The internet checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The frame of a message, with a checksum completed that is left to its receiver.
pub fn completed(message: &[u8]) -> Vec<u8> {
    let (header, frame) = message.split_at(HEADER);
    assert_eq!(header[1], 0, "no large segments were agreed on");
    let mut frame = frame.to_vec();
    if header[0] & 1 != 0 {
        let number = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (start, place) = (number(6), number(6) + number(8));
        let sum = checksum(&frame[start..]);
        frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}
