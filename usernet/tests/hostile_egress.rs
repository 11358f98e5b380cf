//! A guest that wishes for anything at all, and an opener that does anything it may: the gateway neither
//! panics nor hangs, and forgets nothing.

mod common;

use common::{GATEWAY_MAC, GUEST_IP, GUEST_MAC, config};
use denali_usernet::{Config, Gateway};
use proptest::prelude::*;
use std::net::TcpListener;

const SECOND: u64 = 1_000_000_000;

/// Any datagrams and attempts to connect, to few or many destinations, while the opener answers, holds
/// back or vanishes.
#[derive(Clone, Debug)]
enum Wish {
    Connect { to: u8, port: u16, from: u16, flags: u8 },
    Datagram { to: u8, port: u16, from: u16, payload: Vec<u8>, wrong_length: Option<u16> },
    Hold,
    Release,
    Pass(u64),
    Disappear,
}

fn wish() -> impl Strategy<Value = Wish> {
    let port = || prop_oneof![Just(53_u16), 440_u16..446, any::<u16>()];
    let to = || prop_oneof![Just(2_u8), Just(7), any::<u8>()];
    prop_oneof![
        8 => (to(), port(), port(), prop_oneof![Just(2_u8), any::<u8>()])
            .prop_map(|(to, port, from, flags)| Wish::Connect { to, port, from, flags }),
        8 => (to(), port(), port(), prop::collection::vec(any::<u8>(), 0..40),
            prop::option::weighted(0.1, any::<u16>()))
            .prop_map(|(to, port, from, payload, wrong_length)| {
                Wish::Datagram { to, port, from, payload, wrong_length }
            }),
        2 => Just(Wish::Hold),
        2 => Just(Wish::Release),
        2 => (0_u64..100 * SECOND).prop_map(Wish::Pass),
        1 => Just(Wish::Disappear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the guest wishes for, waiting and conversations are bounded, frames are well-formed,
    /// and in the end nothing is left.
    #[test]
    fn no_wish_harms_the_gateway(wishes in prop::collection::vec(wish(), 1..150)) {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config { resolves: true, ..config() };
        let mut hostile = Hostile { gateway: Gateway::new(config, Vec::new()).unwrap(), now_ns: SECOND };
        let (opener, script) = common::opener::TestOpener::new();
        for port in 440..446 {
            let to = std::net::SocketAddrV4::new([10, 0, 2, 7].into(), port);
            let real = if port % 2 == 0 { server.local_addr() } else { listener.local_addr() };
            script.borrow_mut().leads.insert(to, real.unwrap());
        }
        hostile.gateway.set_opener(Box::new(opener)).unwrap();
        for wish in wishes {
            match wish {
                Wish::Connect { to, port, from, flags } => {
                    let mut bytes = [from.to_be_bytes(), port.to_be_bytes()].concat();
                    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 255, 255, 0, 0, 0, 0]);
                    hostile.gateway.transmit(&to_neighbour(6, to, &bytes));
                }
                Wish::Datagram { to, port, from, payload, wrong_length } => {
                    let length = wrong_length.unwrap_or(8 + payload.len() as u16);
                    let mut bytes: Vec<u8> =
                        [from, port, length, 0].iter().flat_map(|n| n.to_be_bytes()).collect();
                    bytes.extend(payload);
                    hostile.gateway.transmit(&to_neighbour(17, to, &bytes));
                }
                Wish::Hold => script.borrow_mut().holding = true,
                Wish::Release => script.borrow_mut().try_release(),
                Wish::Pass(ns) => hostile.now_ns += ns,
                Wish::Disappear => script.borrow_mut().disappear(),
            }
            hostile.turn(0);
        }
        script.borrow_mut().try_release();
        for _ in 0..40 {
            hostile.turn(20 * SECOND);
        }
        prop_assert_eq!(hostile.gateway.deadline(), None);
        let counters = hostile.gateway.counters();
        prop_assert_eq!(counters.open, 0);
    }
}

/// A gateway, driven by hand.
struct Hostile {
    gateway: Gateway,
    now_ns: u64,
}

impl Hostile {
    /// Time passes, the gateway works, and its frames are looked at.
    fn turn(&mut self, later_ns: u64) {
        self.now_ns += later_ns;
        self.gateway.begin(self.now_ns);
        self.gateway.poll();
        while let Some(frame) = self.gateway.next_frame() {
            assert!(frame[..6] == GUEST_MAC && frame[6..12] == GATEWAY_MAC);
            let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            assert_eq!(frame.len(), 14 + length);
            assert!(length <= 1500 && frame[30..34] == GUEST_IP.octets());
            self.gateway.consume();
        }
    }
}

/// A packet to an address of the guest's subnet.
fn to_neighbour(protocol: u8, last: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [GATEWAY_MAC, GUEST_MAC].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(GUEST_IP.octets());
    frame.extend([10, 0, 2, last]);
    frame.extend(payload);
    frame
}
