//! Which packets wake a guest that is not connected, and which wait for it only.

use crate::frame::{FIN, Packet, RST, SYN, Transport};

/// What a packet for a guest that is not connected does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It waits, and the guest is wanted.
    Wakes,
    /// It waits, in case the guest comes for something else: what a peer says at the end of a connection, and what
    /// needs no answer.
    Waits,
    /// It is dropped.
    Nothing,
}

/// What a packet does to a guest whose packets must have one of `ports` as their destination; any will do where
/// there are none, and then an echo request too if `echo`.
pub fn effect(packet: &Packet, ports: &[u16], echo: bool) -> Effect {
    let wanted = |port: u16| ports.is_empty() || ports.contains(&port);
    match packet.transport {
        Transport::Tcp(segment) if wanted(segment.destination_port) => {
            let asks = segment.flags & (SYN | FIN) != 0 || segment.data > 0;
            if asks && segment.flags & RST == 0 { Effect::Wakes } else { Effect::Waits }
        }
        Transport::Udp(_, port) if wanted(port) => Effect::Wakes,
        Transport::Echo if echo && ports.is_empty() => Effect::Wakes,
        _ => Effect::Nothing,
    }
}

/// What tells a segment from all others but its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    source: u32,
    ports: (u16, u16),
    sequence: u32,
    flags: u8,
    data: u16,
}

/// What tells a packet from all others but its repetitions, if anything does.
pub fn identity(packet: &Packet) -> Option<Identity> {
    let Transport::Tcp(segment) = packet.transport else { return None };
    Some(Identity {
        source: packet.source.to_bits(),
        ports: (segment.source_port, segment.destination_port),
        sequence: segment.sequence,
        flags: segment.flags,
        data: segment.data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{datagram, packet, segment};
    use crate::frame::{ICMP, TCP, UDP, parse_packet};

    const ACK: u8 = 0x10;

    fn read(protocol: u8, payload: &[u8]) -> Packet {
        parse_packet(&packet(protocol, [10, 0, 0, 1], [10, 0, 0, 2], payload)).unwrap()
    }

    fn tcp(port: u16, flags: u8, data: &[u8]) -> Packet {
        read(TCP, &segment([40_000, port], 1, flags, data))
    }

    #[test]
    fn what_asks_wakes_and_what_ends_waits() {
        for (flags, data, expected) in [
            (SYN, &b""[..], Effect::Wakes),
            (ACK, b"GET", Effect::Wakes),
            (FIN | ACK, b"", Effect::Wakes),
            (ACK, b"", Effect::Waits),
            (RST, b"", Effect::Waits),
            (RST | SYN, b"", Effect::Waits),
        ] {
            assert_eq!(effect(&tcp(80, flags, data), &[], true), expected, "{flags:x}");
            assert_eq!(effect(&tcp(80, flags, data), &[22, 80], true), expected, "{flags:x}");
            assert_eq!(effect(&tcp(81, flags, data), &[22, 80], true), Effect::Nothing);
        }
    }

    #[test]
    fn datagrams_go_by_their_port_and_echoes_by_the_option() {
        let dns = read(UDP, &datagram([40_000, 53], b"?"));
        assert_eq!(effect(&dns, &[], true), Effect::Wakes);
        assert_eq!(effect(&dns, &[53], true), Effect::Wakes);
        assert_eq!(effect(&dns, &[80], true), Effect::Nothing);
        let echo = read(ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(effect(&echo, &[], true), Effect::Wakes);
        assert_eq!(effect(&echo, &[], false), Effect::Nothing);
        assert_eq!(effect(&echo, &[80], true), Effect::Nothing);
        let answer = read(ICMP, &[0, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(effect(&answer, &[], true), Effect::Nothing);
        let fragment = read(99, b"something else");
        assert_eq!(effect(&fragment, &[], true), Effect::Nothing);
    }

    #[test]
    fn a_repeated_segment_is_known_again() {
        assert_eq!(identity(&tcp(80, SYN, b"")), identity(&tcp(80, SYN, b"")));
        assert_ne!(identity(&tcp(80, SYN, b"")), identity(&tcp(80, ACK, b"")));
        assert_ne!(identity(&tcp(80, SYN, b"")), identity(&tcp(81, SYN, b"")));
        assert_eq!(identity(&read(UDP, &datagram([1, 2], b""))), None);
    }
}
