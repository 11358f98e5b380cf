//! Frames that guests and the host give the switch, what waits for guests meanwhile, and what a supervisor and a switch say
//! to each other.

use crate::input::Input;
use crate::memory::bounded;
use denali_switch::fuzzing::{GATEWAY, GUESTS, Network, guest};
use denali_switch::message::{decode, encode};
use denali_switch::protocol::{Ask, Port, Told};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Most things that one input does.
const STEPS_MAX: usize = 128;
/// Bytes that the network may allocate: what may wait for its guests, and as much again.
const ALLOCATED_MAX: usize = 2 << 20;
/// Bytes of the header in front of a frame.
const HEADER: usize = 12;
const SECOND: u64 = 1_000_000_000;

/// The input: a policy, and steps, each a byte that says what it is, and what belongs to it. The same bytes are read as
/// messages of the control protocol.
pub fn switch(bytes: &[u8]) {
    bounded(ALLOCATED_MAX, || {
        let mut input = Input(bytes);
        let mut network = Network::new(input.byte());
        let mut now_ns = SECOND;
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            step(&mut network, &mut input, &mut now_ns);
        }
        network.end();
    });
    bounded(256 * bytes.len() + (64 << 10), || {
        message::<Ask>(bytes);
        message::<Told>(bytes);
    });
}

fn step(network: &mut Network, input: &mut Input<'_>, now_ns: &mut u64) {
    match input.byte() % 6 {
        0 => {
            let (from, length) = (input.byte(), input.u16() % 1700);
            let mut message = input.bytes(usize::from(length)).to_vec();
            network.take_from_guest(from % (GUESTS + 1), &mut message, *now_ns);
        }
        1 => {
            let from = input.byte() % GUESTS;
            let mut message = packet(input, guest(from));
            network.take_from_guest(from, &mut message, *now_ns);
        }
        2 => {
            let from = input.byte() % GUESTS;
            let mut message = arp(input, guest(from));
            network.take_from_guest(from, &mut message, *now_ns);
        }
        3 => {
            let from = (GATEWAY.0, [192, 0, 2, input.byte() % 2]);
            let mut message = packet(input, from);
            network.take_from_host(&mut message, *now_ns);
        }
        4 => {
            *now_ns += u64::from(input.byte()) * SECOND / 4;
            network.take(input.byte() % GUESTS, *now_ns);
        }
        _ => {
            let length = usize::from(input.u16() % 400);
            if let Ok(port) = serde_json::from_slice::<Port>(input.bytes(length)) {
                network.set(port);
            }
        }
    }
}

/// A message with a packet to somebody whom the switch knows, its lengths as they belong, but for one byte perhaps.
fn packet(input: &mut Input<'_>, from: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let [whom, mac, protocol, length, place, value] = input.array();
    let to = somebody(whom);
    let link = if mac % 2 == 0 { GATEWAY.0 } else { to.0 };
    let partial = [1, 0, 0, 0, 0, 0, 34, 0, if protocol % 4 == 0 { 16 } else { 6 }, 0, 0, 0];
    let header = if mac & 0x80 == 0 { [0; HEADER] } else { partial };
    let payload = payload(input, protocol, usize::from(length));
    let mut message = [&header[..], &link, &from.0, &[8, 0, 0x45, 0]].concat();
    message.extend((20 + payload.len() as u16).to_be_bytes());
    message.extend([0, 0, 0x40, 0, 64, [6, 17, 1, 99][usize::from(protocol % 4)], 0, 0]);
    message.extend(from.1);
    message.extend(to.1);
    message.extend(payload);
    if let Some(byte) = message.get_mut(usize::from(place)) {
        *byte ^= value;
    }
    message
}

/// A segment, a datagram, a message of ICMP, or something else, with these bytes in it.
fn payload(input: &mut Input<'_>, protocol: u8, length: usize) -> Vec<u8> {
    let ports = input.array::<4>();
    let mut bytes = ports.to_vec();
    match protocol % 4 {
        0 => {
            bytes.extend(input.array::<8>());
            bytes.extend([0x50, input.byte(), 1, 0, 0, 0, 0, 0]);
        }
        1 => bytes.extend([&(8 + length as u16).to_be_bytes()[..], &[0, 0]].concat()),
        2 => bytes = vec![ports[0] & 8, 0, 0, 0, 0, 0, 0, 0],
        _ => {}
    }
    bytes.extend(input.bytes(length));
    if protocol % 4 == 1 {
        let whole = (bytes.len() as u16).to_be_bytes();
        bytes[4..6].copy_from_slice(&whole);
    }
    bytes
}

fn arp(input: &mut Input<'_>, from: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let [whom, operation, place, value] = input.array();
    let asks = [0, 1, 8, 0, 6, 4, 0, operation % 3];
    let link = [&[0xff; 6][..], &from.0, &[8, 6]].concat();
    let target = somebody(whom).1;
    let mut message = [&[0; HEADER][..], &link, &asks, &from.0, &from.1, &[0; 6], &target].concat();
    if let Some(byte) = message.get_mut(usize::from(place)) {
        *byte ^= value;
    }
    message
}

fn somebody(number: u8) -> ([u8; 6], [u8; 4]) {
    match number % 8 {
        number @ 0..GUESTS => guest(number),
        4 => GATEWAY,
        5 => ([0xff; 6], [10, 0, 0, 255]),
        6 => ([1, 0, 0x5e, 0, 0, 1], [224, 0, 0, 1]),
        _ => (GATEWAY.0, [192, 0, 2, 9]),
    }
}

/// What is read is what is written.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(read) = decode::<T>(bytes) {
        let written = encode(&read).expect("it is as short as it was");
        assert_eq!(decode::<T>(&written), Ok(read));
    }
}

/// Packets and questions of guests and the host, with what waits taken; and a message of each kind.
#[must_use]
pub fn switch_seeds() -> Vec<Vec<u8>> {
    let syn = [1, 1, 0, 0, 0, 0, 0, 3, 232, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 2];
    let datagram = [1, 1, 1, 0, 1, 4, 0, 0, 3, 232, 0, 53, 1, 2, 3, 4];
    let echo = [1, 4, 0, 2, 2, 0, 0, 8, 0, 0, 0, 9, 9];
    let asks = [2, 1, 4, 1, 0, 0, 2, 1, 0, 1, 0, 0];
    let host = [3, 0, 1, 0, 0, 0, 0, 0, 3, 232, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 2];
    let takes = [4, 9, 0, 4, 200, 1];
    let all = [&[2][..], &syn, &datagram, &echo, &asks, &host, &takes].concat();
    let port = br#"{"number":9,"address":"10.0.0.77","mac":[2,0,0,0,0,77],"group":1,"wakes":[80],"rate":9}"#;
    let sets = [&[1, 5][..], &(port.len() as u16).to_le_bytes(), port].concat();
    let said = [
        r#"{"ask":"hello","version":1}"#,
        r#"{"ask":"set","ports":[{"number":0,"address":"10.0.0.2","mac":[2,0,0,0,0,2],"group":0}]}"#,
        r#"{"ask":"publish","port":1,"guest_port":80,"udp":true}"#,
        r#"{"ask":"ports"}"#,
        r#"{"told":"hello","version":1,"ports":3}"#,
        r#"{"told":"wanted","ports":[1,2,3]}"#,
        r#"{"told":"problem","message":"port 1: address is another port's"}"#,
    ];
    let mut seeds = vec![all, sets];
    seeds.extend(said.map(|text| text.as_bytes().to_vec()));
    seeds
}
