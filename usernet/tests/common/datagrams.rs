//! Datagrams of a guest as frames, and frames for the guest, by hand.

use super::{GATEWAY_MAC, GUEST_IP, GUEST_MAC, Rig};
use std::net::SocketAddrV4;

/// A datagram of the guest, as a frame.
pub fn datagram(to: SocketAddrV4, from: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [GATEWAY_MAC, GUEST_MAC].concat();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((28 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(GUEST_IP.octets());
    frame.extend(to.ip().octets());
    for number in [from, to.port(), 8 + payload.len() as u16, 0] {
        frame.extend(number.to_be_bytes());
    }
    frame.extend(payload);
    let sum: u32 = frame[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Turns until a frame comes for which `wanted` holds.
pub fn frame(rig: &mut Rig, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut found = None;
    rig.alive = false;
    rig.until("a frame", |rig| {
        while let Some(frame) = rig.gateway.next_frame() {
            if wanted(frame) {
                found = Some(frame.to_vec());
            }
            rig.gateway.consume();
        }
        found.is_some()
    });
    found.unwrap()
}

pub fn is_protocol(number: u8) -> impl Fn(&[u8]) -> bool {
    move |frame| frame[12..14] == [8, 0] && frame[23] == number
}
