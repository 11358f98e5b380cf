//! Tests of the card while batching is off: one frame for the guest, one interrupt.

use super::*;

fn card() -> Card {
    let mut card = Card::new(ALL_FEATURES & !abi::FEATURE_EVENT_IDX, 16);
    card.bus.deliver_singly(true);
    card
}

#[test]
fn each_frame_for_the_guest_has_an_interrupt_of_its_own() {
    let mut card = card();
    for head in 0..5 {
        card.want(head, 2048);
        card.arrive(&[head as u8; 60]);
    }
    for head in 0..5 {
        let service = card.service();
        assert_eq!((service.raised, service.more), (true, head < 4), "frame {head}");
        assert_eq!(card.receive.used_index(&card.memory), head + 1);
        assert_eq!(card.got(head, 13)[12], head as u8);
    }
    assert_eq!(card.service(), crate::Service::default());
    assert_eq!(card.line.0.get(), 5);
}

#[test]
fn what_the_guest_sends_goes_at_once() {
    let mut card = card();
    for head in 0..8 {
        card.send(head, &with_header(b"from the guest"));
    }
    card.arrive(&[1; 60]);
    card.arrive(&[2; 60]);
    card.want(0, 2048);
    card.want(1, 2048);
    assert!(card.service().more);
    assert_eq!(card.pipe.0.taken.borrow().len(), 8);
    assert_eq!((card.transmit.used_index(&card.memory), card.line.0.get()), (8, 1));
}

#[test]
fn frames_without_buffers_are_not_more_to_do() {
    let mut card = card();
    card.want(0, 2048);
    (0..3).for_each(|_| card.arrive(&[1; 60]));
    assert!(card.service().more);
    assert!(!card.service().more, "there is no buffer");
    card.want(1, 2048);
    assert!(card.service().raised);
}

#[test]
fn it_outlasts_a_reset_and_can_be_undone() {
    let mut card = card();
    card.bus.put(abi::STATUS, 0);
    card.bus.negotiate(ALL_FEATURES & !abi::FEATURE_EVENT_IDX);
    let rings = [card.receive.rings, card.transmit.rings];
    for (number, rings) in (0..).zip(&rings) {
        card.bus.set_up(number, rings);
    }
    card.bus.start();
    for head in 0..8 {
        card.want(head, 2048);
        card.arrive(&[1; 60]);
    }
    assert!(card.service().more);
    assert_eq!(card.receive.used_index(&card.memory), 1);
    card.bus.deliver_singly(false);
    assert!(!card.service().more);
    assert_eq!((card.receive.used_index(&card.memory), card.line.0.get()), (8, 2));
}
