//! What the switch itself answers: who has an address, and echo requests to the gateway.

use crate::checksum;
use crate::frame::{ARP, Arp, ETHERNET, IP_HEADER};
use crate::header::HEADER;

/// An answer to an ARP request, with its header, that `mac` has the address that was asked for.
pub fn arp(asked: &Arp, mac: [u8; 6], to: &mut Vec<u8>) {
    to.clear();
    to.resize(HEADER, 0);
    to.extend(asked.sender_mac);
    to.extend(mac);
    to.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    to.extend(mac);
    to.extend(asked.target.octets());
    to.extend(asked.sender_mac);
    to.extend(asked.sender.octets());
    debug_assert_eq!(to.len(), HEADER + ETHERNET + ARP);
}

/// The answer to a frame with an echo request, with its header. The packet is `length` bytes and has no options.
pub fn echo(frame: &[u8], length: usize, to: &mut Vec<u8>) {
    to.clear();
    to.resize(HEADER, 0);
    to.extend(&frame[6..12]);
    to.extend(&frame[..6]);
    to.extend(&frame[12..ETHERNET + length]);
    let packet = &mut to[HEADER + ETHERNET..];
    let (header, message) = packet.split_at_mut(IP_HEADER);
    let (source, destination) = header[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    header[8] = 64;
    header[10..12].fill(0);
    let sum = checksum::complement(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    message[0] = 0;
    message[2..4].fill(0);
    let sum = checksum::complement(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{frame, packet};
    use crate::frame::{Content, ICMP, parse};

    const A: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
    const B: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 3], [10, 0, 0, 3]);

    #[test]
    fn arp_is_answered_with_the_other_way_round() {
        let bytes = crate::frame::tests::arp(1, A, B.1);
        let Content::Arp(asked) = parse(&bytes).unwrap().content else { panic!() };
        let mut answer = vec![9; 3];
        arp(&asked, B.0, &mut answer);
        let read = parse(&answer[HEADER..]).unwrap();
        assert_eq!((read.to, read.from), (A.0, B.0));
        let Content::Arp(told) = read.content else { panic!() };
        assert!(!told.asks);
        assert_eq!((told.sender_mac, told.sender, told.target), (B.0, B.1.into(), A.1.into()));
    }

    #[test]
    fn an_echo_comes_back_with_right_checksums() {
        let request = packet(ICMP, A.1, B.1, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
        let bytes = [frame(B.0, A.0, &request), vec![0; 20]].concat();
        let mut answer = Vec::new();
        echo(&bytes, request.len(), &mut answer);
        let (header, packet) = answer.split_at(HEADER + ETHERNET);
        assert_eq!(
            (&header[HEADER..HEADER + 6], &header[HEADER + 6..HEADER + 12]),
            (&A.0[..], &B.0[..])
        );
        assert_eq!((&packet[12..16], &packet[16..20]), (&B.1[..], &A.1[..]));
        assert_eq!(checksum::complement(&packet[..20]), 0);
        assert_eq!(checksum::complement(&packet[20..]), 0);
        assert_eq!((packet[20], &packet[24..]), (0, &[1, 2, 3, 4, 5][..]));
    }
}
