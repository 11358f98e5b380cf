//! Tests of what becomes of frames.

use super::*;
use crate::frame::tests::{arp, datagram, frame, packet, segment};
use crate::frame::{ICMP, SYN, TCP, UDP};
use crate::options::Policy;
use crate::protocol::Port;
use proptest::prelude::*;

const SWITCH: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [10, 0, 0, 1]);
const OUTSIDE: [u8; 4] = [192, 0, 2, 7];

/// Addresses of the guest of a port.
fn guest(number: u8) -> ([u8; 6], [u8; 4]) {
    ([2, 0, 1, 0, 0, number], [10, 0, 0, 10 + number])
}

/// Ports 0 and 1 in group 0, 2 and 3 in group 1.
fn fabric(policy: Policy) -> Fabric {
    let options = Options::new(SWITCH.1.into(), 24, SWITCH.0);
    let mut fabric = Fabric::new(Options { policy, ..options });
    for number in 0..4_u8 {
        let (mac, address) = guest(number);
        let port = Port {
            number: number.into(),
            address: address.into(),
            mac,
            group: u32::from(number / 2),
            wakes: if number == 3 { vec![80] } else { Vec::new() },
            rate: 0,
        };
        fabric.ports.set(port, &fabric.options).unwrap();
    }
    fabric
}

fn message(frame: &[u8]) -> Vec<u8> {
    [&[0; HEADER][..], frame].concat()
}

/// A message of one guest to another with a SYN.
fn syn(from: u8, to: u8) -> Vec<u8> {
    let (from, to) = (guest(from), guest(to));
    let packet = packet(TCP, from.1, to.1, &segment([1000, 80], 1, SYN, b""));
    message(&frame(to.0, from.0, &packet))
}

fn judge(fabric: &Fabric, from: PortNumber, message: &mut [u8]) -> Verdict {
    fabric.take_from_guest(from, message, &mut Vec::new())
}

#[test]
fn the_policy_says_who_talks_to_whom() {
    let forbidden = Verdict::Dropped(Reason::Forbidden);
    for (policy, to, allowed) in [
        (Policy::Isolated, 1, false),
        (Policy::Group, 1, true),
        (Policy::Group, 2, false),
        (Policy::Open, 2, true),
    ] {
        let fabric = fabric(policy);
        let mut direct = syn(0, to);
        let length = direct.len();
        let expected = if allowed { Verdict::Port(to.into(), length) } else { forbidden };
        assert_eq!(judge(&fabric, 0, &mut direct), expected, "{policy:?}");
        // Nor does it help to send it through the gateway, as a router would.
        let mut routed = syn(0, to);
        routed[HEADER..HEADER + 6].copy_from_slice(&SWITCH.0);
        assert_eq!(judge(&fabric, 0, &mut routed), expected, "{policy:?}, routed");
        if allowed {
            let (link, _) = routed[HEADER..].split_at(12);
            assert_eq!(link, [guest(to).0, SWITCH.0].concat());
        }
        let mut answer = Vec::new();
        let mut asks = message(&arp(1, guest(0), guest(to).1));
        let verdict = fabric.take_from_guest(0, &mut asks, &mut answer);
        let arp_dropped = Verdict::Dropped(Reason::Arp);
        assert_eq!(verdict, if allowed { Verdict::Answered } else { arp_dropped });
        if allowed {
            assert_eq!(answer[HEADER + 22..HEADER + 28], guest(to).0);
        }
    }
}

#[test]
fn the_gateway_is_there_for_all() {
    let fabric = fabric(Policy::Isolated);
    let mut answer = Vec::new();
    let mut asks = message(&arp(1, guest(2), SWITCH.1));
    assert_eq!(fabric.take_from_guest(2, &mut asks, &mut answer), Verdict::Answered);
    assert_eq!(answer[HEADER + 22..HEADER + 28], SWITCH.0);
    for (to, gateway) in [(SWITCH.1, true), (OUTSIDE, false)] {
        let bytes = packet(UDP, guest(2).1, to, &datagram([1, 2], b"x"));
        let mut out = message(&frame(SWITCH.0, guest(2).0, &bytes));
        let Verdict::Host(wanted) = judge(&fabric, 2, &mut out) else { panic!() };
        assert_eq!(wanted.gateway, gateway);
        let verdict = fabric.answer_for_host(&out[HEADER..], &wanted, &mut answer);
        assert_eq!(verdict, Verdict::Dropped(Reason::NoUplink));
        let mut elsewhere = message(&frame(guest(1).0, guest(2).0, &bytes));
        assert_eq!(judge(&fabric, 2, &mut elsewhere), Verdict::Dropped(Reason::Unknown));
    }
    let echo = packet(ICMP, guest(2).1, SWITCH.1, &[8, 0, 0, 0, 0, 1, 0, 1]);
    let mut echo = message(&frame(SWITCH.0, guest(2).0, &echo));
    let Verdict::Host(wanted) = judge(&fabric, 2, &mut echo) else { panic!() };
    let verdict = fabric.answer_for_host(&echo[HEADER..], &wanted, &mut answer);
    assert_eq!(verdict, Verdict::Answered);
}

#[test]
fn false_sources_are_dropped() {
    let fabric = fabric(Policy::Open);
    let spoofed = Verdict::Dropped(Reason::Spoofed);
    // Another's MAC address, another's address, both.
    assert_eq!(judge(&fabric, 2, &mut syn(0, 1)), spoofed);
    let payload = segment([1, 2], 0, SYN, b"");
    for (mac, address) in [(guest(2).0, guest(0).1), (guest(0).0, guest(2).1)] {
        for to in [guest(1).1, SWITCH.1, OUTSIDE] {
            let bytes = frame(SWITCH.0, mac, &packet(TCP, address, to, &payload));
            assert_eq!(judge(&fabric, 2, &mut message(&bytes)), spoofed);
        }
    }
    let mut asks = arp(1, guest(2), guest(1).1);
    asks[22] ^= 2;
    assert_eq!(judge(&fabric, 2, &mut message(&asks)), spoofed, "its MAC inside");
    let mut asks = arp(1, guest(2), guest(1).1);
    asks[31] ^= 1;
    assert_eq!(judge(&fabric, 2, &mut message(&asks)), spoofed, "its address inside");
}

#[test]
fn what_is_for_many_or_announces_reaches_nobody() {
    let fabric = fabric(Policy::Open);
    let dropped = |frame: &[u8]| judge(&fabric, 0, &mut message(frame));
    let me = guest(0);
    let to = |mac, address| frame(mac, me.0, &packet(UDP, me.1, address, &datagram([1, 2], b"")));
    for (mac, address) in [
        ([0xff; 6], [255; 4]),
        ([0xff; 6], [10, 0, 0, 255]),
        ([0xff; 6], guest(1).1),
        ([1, 0, 0x5e, 0, 0, 1], [224, 0, 0, 1]),
        (SWITCH.0, [224, 0, 0, 1]),
        (SWITCH.0, [10, 0, 0, 255]),
        (SWITCH.0, [127, 0, 0, 1]),
        (SWITCH.0, [0; 4]),
    ] {
        assert_eq!(dropped(&to(mac, address)), Verdict::Dropped(Reason::Broadcast), "{address:?}");
    }
    assert_eq!(dropped(&to(SWITCH.0, [10, 0, 0, 99])), Verdict::Dropped(Reason::Unknown));
    assert_eq!(dropped(&to(SWITCH.0, me.1)), Verdict::Dropped(Reason::Unknown));
    for announcement in [arp(1, me, me.1), arp(2, me, me.1), arp(2, me, guest(1).1)] {
        assert_eq!(dropped(&announcement), Verdict::Dropped(Reason::Arp));
    }
}

#[test]
fn what_is_too_long_or_segmented_is_dropped() {
    let fabric = fabric(Policy::Open);
    let long = packet(UDP, guest(0).1, guest(1).1, &datagram([1, 2], &[0; 1473]));
    let mut long = message(&frame(guest(1).0, guest(0).0, &long));
    assert_eq!(judge(&fabric, 0, &mut long), Verdict::Dropped(Reason::TooLong));
    let mut segmented = syn(0, 1);
    segmented[1] = 1;
    assert_eq!(judge(&fabric, 0, &mut segmented), Verdict::Dropped(Reason::TooLong));
}

#[test]
fn packets_of_the_host_find_their_guest() {
    let fabric = fabric(Policy::Isolated);
    let payload = segment([1, 80], 0, SYN, b"");
    let take_from_host = |from, to| {
        let mut bytes = vec![0; HEADER + ETHERNET];
        bytes.extend(packet(TCP, from, to, &payload));
        (fabric.take_from_host(&mut bytes), bytes)
    };
    let (to, bytes) = take_from_host(OUTSIDE, guest(3).1);
    assert_eq!(to, Ok((3, bytes.len())));
    let sent = frame(guest(3).0, SWITCH.0, &packet(TCP, OUTSIDE, guest(3).1, &payload));
    assert_eq!(bytes[HEADER..], sent);
    assert!(take_from_host(SWITCH.1, guest(0).1).0.is_ok());
    assert_eq!(take_from_host(guest(1).1, guest(0).1).0, Err(Reason::Spoofed));
    assert_eq!(take_from_host([127, 0, 0, 1], guest(0).1).0, Err(Reason::Spoofed));
    assert_eq!(take_from_host(SWITCH.1, [10, 0, 0, 99]).0, Err(Reason::Unknown));
    assert_eq!(take_from_host(SWITCH.1, [10, 0, 0, 255]).0, Err(Reason::Broadcast));
    assert_eq!(take_from_host(SWITCH.1, [224, 0, 0, 251]).0, Err(Reason::Broadcast));
}

#[test]
fn who_is_not_there_is_wanted_once() {
    let mut fabric = fabric(Policy::Open);
    let at = |ms: u64| (ms * 1_000_000, ms * 1_000_000);
    assert_eq!(fabric.hold(1, &syn(0, 1), at(1), false), (Ok(()), true));
    assert_eq!(fabric.hold(1, &syn(0, 1), at(2), false), (Err(Reason::Repeated), false));
    assert_eq!(fabric.hold(1, &syn(2, 1), at(3), false), (Ok(()), false), "it is wanted already");
    // It still is not there, and whoever wants it asks again.
    assert_eq!(fabric.hold(1, &syn(0, 1), at(501), false), (Err(Reason::Repeated), true));
    assert_eq!(fabric.hold(1, &syn(0, 1), at(502), false), (Err(Reason::Repeated), false));
    let mut closed = syn(0, 3);
    closed[HEADER + ETHERNET + 23] = 81;
    assert_eq!(fabric.hold(3, &closed, at(0), false), (Err(Reason::NotWaking), false));
    assert_eq!(fabric.hold(3, &closed, at(0), true), (Ok(()), true), "but for published ports");
    assert_eq!(fabric.counters.wanted, 2);
    assert_eq!(fabric.waiting.amount().0, 3);
}

/// Bytes that are nearly a frame of guest 0.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let addresses = prop::sample::select(vec![
        SWITCH,
        guest(0),
        guest(1),
        guest(2),
        ([0xff; 6], [255; 4]),
        (SWITCH.0, OUTSIDE),
    ]);
    let protocols = prop::sample::select(vec![ICMP, TCP, UDP, 99]);
    let payload = prop::collection::vec(any::<u8>(), 0..60);
    let changes = prop::collection::vec((0_usize..90, any::<u8>()), 0..4);
    (addresses.clone(), addresses.clone(), addresses, protocols, payload, changes).prop_map(
        |(to, mac, from, protocol, payload, changes)| {
            let mut bytes = message(&frame(to.0, mac.0, &packet(protocol, from.1, to.1, &payload)));
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes
        },
    )
}

proptest! {
    /// Whatever a guest sends goes nowhere, or leaves under its own addresses and for whom it may talk to.
    #[test]
    fn no_frame_passes_under_a_false_source(bytes in nearly(), policy in 0..3_usize) {
        let policy = [Policy::Isolated, Policy::Group, Policy::Open][policy];
        let fabric = fabric(policy);
        let mut changed = bytes.clone();
        let mut answer = Vec::new();
        let verdict = fabric.take_from_guest(0, &mut changed, &mut answer);
        let source_is_own = || bytes[HEADER + 6..HEADER + 12] == guest(0).0
            && bytes[HEADER + 26..HEADER + 30] == guest(0).1;
        match verdict {
            Verdict::Port(to, length) => {
                prop_assert!(source_is_own() && length <= bytes.len());
                prop_assert!(to != 0 && policy != Policy::Isolated);
                prop_assert!(policy == Policy::Open || to == 1);
                let (mac, address) = guest(to as u8);
                prop_assert_eq!(&changed[HEADER..HEADER + 6], mac);
                prop_assert_eq!(&changed[HEADER + 30..HEADER + 34], address);
                prop_assert_eq!(&changed[HEADER + 14..length], &bytes[HEADER + 14..length]);
            }
            Verdict::Host(wanted) => {
                prop_assert!(source_is_own());
                prop_assert_eq!(&bytes[HEADER..HEADER + 6], SWITCH.0);
                let destination = wanted.packet.destination;
                prop_assert!(!fabric.options.contains(destination) || wanted.gateway);
            }
            Verdict::Answered => prop_assert_eq!(&answer[HEADER..HEADER + 6], guest(0).0),
            Verdict::Dropped(_) => {}
        }
    }

    #[test]
    fn arbitrary_bytes_harm_nobody(bytes: Vec<u8>, port in 0..6_u32, host: bool) {
        let mut fabric = fabric(Policy::Open);
        let mut bytes = bytes;
        if host {
            if let Ok((to, length)) = fabric.take_from_host(&mut bytes) {
                prop_assert!(to < 4 && length <= bytes.len());
            }
        } else {
            judge(&fabric, port, &mut bytes);
            let _ = fabric.hold(port, &bytes, (0, 0), false);
        }
    }
}
