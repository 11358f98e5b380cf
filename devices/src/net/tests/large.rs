//! Large segments in both directions, and frames that span several buffers.

use super::*;
use crate::testing::wild::cases;
use proptest::prelude::*;

/// What a driver agrees to that takes and gives large segments.
pub const FEATURES: u64 = abi::NET_FEATURE_GUEST_TSO4
    | abi::NET_FEATURE_GUEST_TSO6
    | abi::NET_FEATURE_HOST_TSO4
    | abi::NET_FEATURE_HOST_TSO6
    | abi::NET_FEATURE_MRG_RXBUF
    | abi::NET_FEATURE_STATUS;

/// TCP over IPv4, to be cut after every 1460 bytes of data.
const SEGMENT: [u8; NET_HEADER] = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];

fn card(size: u16) -> Card {
    Card::new(ALL_FEATURES | FEATURES, size)
}

/// Bytes that differ from place to place.
fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Offers a frame with its header in one descriptor, which may be larger than a page.
fn send_large(card: &mut Card, header: [u8; NET_HEADER], length: usize) {
    let at = BUFFERS + 0x20_0000;
    let bytes = [&header[..], &frame(length)].concat();
    card.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    card.transmit.descriptor(&card.memory, 0, (at, bytes.len() as u32, 0, 0));
    card.transmit.offer(&card.memory, 0);
}

#[test]
fn a_large_segment_of_the_guest_is_passed_on_whole() {
    let mut card = card(16);
    send_large(&mut card, SEGMENT, 65_549);
    card.service();
    assert_eq!(card.pipe.0.taken.borrow()[..], [(SEGMENT, frame(65_549))]);
    assert_eq!(card.counter("transmit_frames"), 1);
    assert_eq!(card.counter("transmit_packets"), 65_495_u64.div_ceil(1460));
    send_large(&mut card, SEGMENT, 65_551);
    send_large(&mut card, [0; NET_HEADER], 2000);
    card.service();
    assert_eq!(card.pipe.0.taken.borrow().len(), 1, "too large, and large without saying so");
    assert_eq!(card.counter("transmit_errors"), 2);

    let mut card = Card::new(ALL_FEATURES, 16);
    send_large(&mut card, SEGMENT, 1000);
    card.service();
    assert!(card.pipe.0.taken.borrow().is_empty(), "not agreed on");
}

#[test]
fn a_frame_that_has_no_room_is_offered_again_and_wakes_nobody() {
    let mut card = card(16);
    card.pipe.0.full.set(true);
    send_large(&mut card, SEGMENT, 3000);
    for _ in 0..2 {
        assert_eq!(card.service(), crate::Service::default());
    }
    assert_eq!(card.transmit.used_index(&card.memory), 0);
    card.pipe.0.full.set(false);
    assert!(card.service().raised);
    assert_eq!(card.pipe.0.taken.borrow().len(), 1);
}

#[test]
fn a_large_segment_spans_buffers_and_they_come_back_together() {
    let mut card = card(32);
    for head in 0..20 {
        card.want(head, 4096);
    }
    card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(9000)));
    card.arrive(b"small");
    card.service();
    assert_eq!(card.receive.used_index(&card.memory), 4);
    let lengths = [4096, 4096, 9012 - 8192, 17];
    for (head, length) in lengths.into_iter().enumerate() {
        assert_eq!(card.receive.next_used(&card.memory), Some((head as u32, length)));
    }
    let got: Vec<u8> =
        (0..3).flat_map(|head| card.got(head, lengths[head as usize] as usize)).collect();
    assert_eq!(got[..10], SEGMENT[..10]);
    assert_eq!(got[10..12], [3, 0], "number of buffers");
    assert_eq!(got[12..], frame(9000));
    assert_eq!(card.got(3, 17)[12..], *b"small");
    assert_eq!(card.counter("receive_packets"), 9000_u64.div_ceil(1460) + 1);
}

#[test]
fn no_frame_is_lost_to_a_guest_that_is_short_of_buffers() {
    let mut card = card(32);
    card.want(0, 4096);
    card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(9000)));
    assert_eq!(card.service(), crate::Service::default());
    assert!(!card.pipe.0.wanted.get(), "frames wake nobody until there are buffers");
    assert_eq!(card.receive.used_index(&card.memory), 0);
    for head in 1..20 {
        card.want(head, 4096);
    }
    card.service();
    assert!(card.pipe.0.wanted.get());
    assert_eq!(card.receive.used_index(&card.memory), 3);

    // A ring that can never hold the largest frame gets those that fit.
    let mut card = super::large::card(2);
    card.want(0, 2048);
    card.want(1, 2048);
    card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(5000)));
    card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(3000)));
    card.service();
    assert_eq!(card.counter("receive_errors"), 1);
    assert_eq!(card.receive.used_index(&card.memory), 2);
}

#[test]
fn interrupts_for_buffers_returned_together_are_as_the_driver_asks() {
    for (event, raised) in [(0, true), (1, true), (2, true), (3, false), (u16::MAX, false)] {
        let mut card = card(32);
        let used_event = GuestAddress(card.receive.rings.available + 4 + 2 * 32);
        card.memory.write_obj(event, used_event).unwrap();
        for head in 0..20 {
            card.want(head, 4096);
        }
        card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(9000)));
        assert_eq!(card.service().raised, raised, "used event {event}");
    }
}

#[test]
fn frames_wait_for_the_rate_limits() {
    use crate::rate::{RateLimiter, TokenBucket};
    const SECOND: u64 = 1_000_000_000;
    let limiter = || RateLimiter::new(Some(TokenBucket::new(1000, 0, SECOND)), None);
    let mut card = Card::limited(ALL_FEATURES, [limiter(), limiter()]);
    for head in 0..8 {
        card.send(head, &with_header(&[1; 750]));
        card.want(head, 2048);
        card.arrive(&[2; 750]);
    }
    let used =
        |card: &Card| [&card.transmit, &card.receive].map(|queue| queue.used_index(&card.memory));
    assert!(!card.bus.service(&card.memory, SECOND).more);
    assert_eq!(used(&card), [2, 2], "the second leaves a debt of 500");
    assert!(!card.pipe.0.wanted.get(), "frames wake nobody meanwhile");
    assert_eq!(card.bus.deadline(), Some(SECOND * 3 / 2));
    card.bus.service(&card.memory, SECOND * 3 / 2 - 1);
    assert_eq!(used(&card), [2, 2]);
    card.bus.service(&card.memory, SECOND * 3 / 2);
    assert_eq!(used(&card), [3, 3]);
    assert_eq!(card.bus.deadline(), Some(SECOND * 9 / 4));
    card.bus.put(abi::STATUS, 0);
    assert_eq!(card.bus.deadline(), None, "nothing waits after a reset");
}

#[test]
fn the_back_end_learns_what_was_agreed_and_when_there_is_no_driver() {
    let mut card = card(16);
    let all = Wanted { checksums: true, segments_v4: true, segments_v6: true };
    assert_eq!(card.pipe.0.agreed.get(), Some(all));
    card.bus.put(abi::STATUS, 0);
    assert_eq!(card.pipe.0.agreed.get(), None);
    let without_checksums = (ALL_FEATURES | FEATURES) & !abi::NET_FEATURE_GUEST_CSUM;
    assert_eq!(card.bus.negotiate(without_checksums), 11);
    card.bus.start();
    assert_eq!(
        card.pipe.0.agreed.get(),
        Some(Wanted::default()),
        "there is not one without the other"
    );
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whatever the sizes of buffers and frames, every frame arrives whole, once, in order.
    #[test]
    fn frames_arrive_whole_whatever_the_buffers(
        buffers in prop::collection::vec(12..4096_u32, 32),
        lengths in prop::collection::vec(55..9000_usize, 1..24),
    ) {
        let mut card = card(32);
        let (mut next, mut expected) = (0, VecDeque::new());
        for &length in &lengths {
            card.pipe.0.waiting.borrow_mut().push_back((SEGMENT, frame(length)));
            expected.push_back(length);
        }
        for _ in 0..64 {
            while next < card.receive.used_index(&card.memory) + 32 {
                let head = next % 32;
                card.want(head, buffers[usize::from(head)]);
                next += 1;
            }
            card.service();
            // Buffers come back in the order they were offered, and are offered again in it.
            while let Some((head, length)) = card.receive.next_used(&card.memory) {
                let mut got = card.got(head as u16, length as usize);
                let count = u16::from_le_bytes([got[10], got[11]]);
                for _ in 1..count {
                    let (head, length) = card.receive.next_used(&card.memory).unwrap();
                    got.extend(card.got(head as u16, length as usize));
                }
                prop_assert_eq!(Some(got.len() - NET_HEADER), expected.pop_front());
                prop_assert_eq!(&got[NET_HEADER..], &frame(got.len() - NET_HEADER)[..]);
            }
        }
        prop_assert!(!card.broken());
        let dropped = card.counter("receive_errors") as usize;
        prop_assert_eq!(expected.len(), dropped);
    }
}
