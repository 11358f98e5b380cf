//! Tests of the network card's driver, with a device that plays the other side of its rings.

use super::super::queue::tests::{FakeDevice, rings};
use super::*;
use denali_abi::virtio::NET_HEADER_GSO_TCPV4;
use proptest::prelude::*;
use smoltcp::phy::{PacketMeta, RxToken, TxToken};
use std::vec::Vec;

fn card_with(layouts: [Layout; 2], large: bool) -> (NetDevice, FakeDevice, FakeDevice) {
    let (receive, transmit) = (rings(), rings());
    let queue = |rings, layout: Layout| Queue::new(rings, vec![0; layout.bytes()].leak(), layout);
    let bounce = large.then(|| &mut *vec![0; SEGMENT_BUFFER].leak());
    let card = NetDevice {
        receive: ReceiveQueue::new(queue(receive, layouts[0]), true, bounce),
        transmit: TransmitQueue::new(queue(transmit, layouts[1]), true),
        registers: RegisterFile::of_device(0),
        has_mac: false,
        mtu: MTU_DEFAULT,
        checksums: Offload { transmit: true, receive: true },
        cuts: large,
    };
    (card, FakeDevice::new(receive), FakeDevice::new(transmit))
}

/// A card, and the device's ends of its receive and transmit queues.
pub(crate) fn card() -> (NetDevice, FakeDevice, FakeDevice) {
    card_with([Layout::uniform(BUFFER_UNIT); 2], false)
}

#[test]
fn frames_arrive_without_their_header_and_buffers_come_back() {
    let (mut card, mut device, _) = card();
    for round in 0..1000_u32 {
        let (id, buffer) = device.next().unwrap();
        buffer[..NET_HEADER].fill(0);
        buffer[NET_HEADER..NET_HEADER + 4].copy_from_slice(&round.to_le_bytes());
        device.finish(u32::from(id), NET_HEADER + 4);
        let (token, _) = card.receive(Instant::ZERO).unwrap();
        assert_eq!(token.consume(<[u8]>::to_vec), round.to_le_bytes());
        assert!(card.receive(Instant::ZERO).is_none());
    }
}

#[test]
fn a_frame_shorter_than_its_header_is_empty() {
    let (mut card, mut device, _) = card();
    let (id, _) = device.next().unwrap();
    device.finish(u32::from(id), NET_HEADER - 1);
    let (token, _) = card.receive(Instant::ZERO).unwrap();
    assert!(token.consume(<[u8]>::is_empty));
}

#[test]
fn sending_stops_when_all_buffers_are_out_and_goes_on_when_they_are_back() {
    let (mut card, _, mut device) = card();
    for _ in 0..ENTRIES {
        card.transmit(Instant::ZERO).unwrap().consume(60, |frame| frame.fill(7));
    }
    assert!(card.transmit(Instant::ZERO).is_none());
    assert!(card.take_starved() && !card.take_starved());
    let (id, bytes) = device.next().unwrap();
    assert_eq!(bytes.len(), NET_HEADER + 60);
    assert_eq!((bytes[0], bytes[NET_HEADER]), (0, 7));
    device.finish(u32::from(id), 0);
    assert!(card.transmit(Instant::ZERO).is_some());
}

/// Puts a frame into as many buffers as it takes, as a device does, in the order it got them.
pub(crate) fn deliver(device: &mut FakeDevice, frame: &[u8]) {
    let mut bytes = vec![0; NET_HEADER];
    bytes[0] = 2;
    bytes.extend_from_slice(frame);
    let mut used: Vec<(u16, &'static mut [u8], usize)> = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (id, buffer) = device.next().unwrap();
        let (now, later) = rest.split_at(rest.len().min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        rest = later;
        used.push((id, buffer, now.len()));
    }
    let count = used.len() as u16;
    used[0].1[10..12].copy_from_slice(&count.to_le_bytes());
    for (id, _, len) in used {
        device.finish(u32::from(id), len);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Frames of any size arrive whole, wherever the ring begins anew.
    #[test]
    fn frames_that_span_buffers_arrive_whole(
        lengths in proptest::collection::vec(1..SEGMENT_FRAME, 1..40),
        power in 12..16_u32,
    ) {
        let layout = Layout::uniform(1 << power);
        let (mut card, mut device, _) = card_with([layout, Layout::uniform(BUFFER_UNIT)], true);
        for (round, &len) in lengths.iter().enumerate() {
            let frame: Vec<u8> = (0..len).map(|at| (at * 7 + round) as u8).collect();
            deliver(&mut device, &frame);
            let (token, _) = card.receive(Instant::ZERO).unwrap();
            token.consume(|got| assert!(got == frame, "frame {round} of {len} bytes"));
            prop_assert!(card.receive(Instant::ZERO).is_none());
        }
    }

    /// Whatever a device announces and gives back, the driver stays in its memory.
    #[test]
    fn a_lying_device_stays_within_bounds(
        used in proptest::collection::vec((0..ENTRIES as u32 + 2, 0..10_000_usize, any::<u16>()), 1..64),
    ) {
        let layout = Layout::uniform(4096);
        let (mut card, mut device, _) = card_with([layout, Layout::uniform(BUFFER_UNIT)], true);
        for &(id, len, count) in &used {
            if let Some((_, buffer)) = device.next() {
                buffer[10..12].copy_from_slice(&count.to_le_bytes());
            }
            device.finish(id, len);
        }
        while let Some((token, _)) = card.receive(Instant::ZERO) {
            token.consume(|frame| assert!(frame.len() <= SEGMENT_BUFFER));
        }
    }
}

#[test]
fn large_segments_say_how_to_cut_them_and_small_frames_leave_large_buffers_alone() {
    let layouts = layouts(1500, 14 << 20, [true, true]);
    assert!((2..ENTRIES).contains(&layouts[1].large));
    let (mut card, _, mut device) = card_with(layouts, true);
    let mut segment = vec![0_u8; 34 + 32 + 9000];
    segment[12] = 8;
    segment[14] = 0x45;
    let total = (segment.len() - 14) as u16;
    segment[16..18].copy_from_slice(&total.to_be_bytes());
    segment[23] = 6;
    segment[34 + 12] = 8 << 4;
    let mut token = card.transmit(Instant::ZERO).unwrap();
    let mut meta = PacketMeta::default();
    meta.segmentation_offload_size = core::num::NonZeroU16::new(1448);
    token.set_meta(meta);
    token.consume(segment.len(), |frame| frame.copy_from_slice(&segment));
    let (id, bytes) = device.next().unwrap();
    assert_eq!(usize::from(id), 0, "the first large buffer");
    let header = [1, NET_HEADER_GSO_TCPV4, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    assert_eq!(bytes[..NET_HEADER], header);

    card.transmit(Instant::ZERO).unwrap().consume(60, |frame| frame.fill(0));
    let (id, bytes) = device.next().unwrap();
    assert_eq!(usize::from(id), layouts[1].large, "the first small buffer");
    assert_eq!(bytes[..NET_HEADER], [0; NET_HEADER]);
}

#[test]
fn buffers_grow_with_memory_and_stay_as_they_were_without_large_segments() {
    let packet = Layout::uniform(BUFFER_UNIT);
    assert_eq!(layouts(1500, 14 << 20, [false, false]), [packet, packet]);
    for untouched in [1 << 20, 14 << 20, 60 << 20, 500 << 20, usize::MAX] {
        let [receive, transmit] = layouts(1500, untouched, [true, true]);
        assert!(receive.bytes() >= SEGMENT_BUFFER, "a segment fits the ring");
        let bound = (untouched / SEGMENT_SHARE).max(ENTRIES * SPANNED_MIN);
        assert!(receive.bytes() <= bound && transmit.bytes() <= bound + ENTRIES * BUFFER_UNIT);
        assert!(transmit.large_len >= NET_HEADER + SEGMENT_FRAME);
    }
}

#[test]
fn large_segments_are_whole_packets() {
    assert_eq!(largest_segment(1500), 54 + 44 * 1460);
    for mtu in [0, 40, 41, 576, 1500, 9000, usize::from(u16::MAX)] {
        assert!((54..=CUT_MAX).contains(&largest_segment(mtu)), "{mtu}");
    }
}

#[test]
fn large_segments_are_agreed_to_only_with_what_they_need() {
    let checksums = NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM;
    let large = NET_FEATURE_GUEST_TSO4 | NET_FEATURE_HOST_TSO4;
    assert_eq!(wanted(large), 0);
    assert_eq!(wanted(NET_FEATURE_MRG_RXBUF | checksums), checksums);
    assert_eq!(wanted(large | checksums), checksums | NET_FEATURE_HOST_TSO4);
    let all = large | checksums | NET_FEATURE_MRG_RXBUF;
    assert_eq!(wanted(all), all);
}
