//! A network card that is saved and goes on elsewhere.

use super::*;
use crate::rate::TokenBucket;
use crate::testing::parking::{change, park, restored, saved};
use crate::testing::wild::{Wild, action, cases};
use proptest::prelude::*;

const FEATURES: [u64; 3] =
    [ALL_FEATURES, ALL_FEATURES | abi::NET_FEATURE_MRG_RXBUF, abi::FEATURE_VERSION_1];

/// A card like that of the tests, on another wire.
fn made(pipe: &Pipe) -> Box<NetDevice<Pipe>> {
    with_config(pipe, [2, 0, 0, 0, 0, 1], MTU)
}

fn with_config(pipe: &Pipe, mac: [u8; 6], mtu: u16) -> Box<NetDevice<Pipe>> {
    Box::new(NetDevice::new(NetConfig { mac, mtu }, pipe.clone()))
}

impl Card {
    /// Moves the card; the wire stays.
    fn park(&mut self) {
        self.line = park(&mut self.bus, &self.memory, made(&self.pipe));
    }
}

#[test]
fn what_lies_in_the_rings_is_carried_on() {
    for features in FEATURES {
        let mut card = Card::new(features, 16);
        card.send(0, &with_header(b"before, returned, not looked at"));
        card.want(0, 2048);
        card.arrive(b"before");
        assert!(card.service().raised);
        card.send(1, &with_header(b"offered, not taken"));
        card.want(1, 2048);
        let elsewhere = Pipe::default();
        let line = park(&mut card.bus, &card.memory, made(&elsewhere));
        assert_eq!(card.pipe.0.agreed.get(), elsewhere.0.agreed.get());
        assert_eq!(line.0.get(), 1, "the driver may not have heard of the first");
        elsewhere.0.waiting.borrow_mut().push_back((WAITING, b"after".to_vec()));
        card.service();
        assert_eq!(card.pipe.0.taken.borrow().len(), 1);
        assert_eq!(elsewhere.0.taken.borrow()[0].1, b"offered, not taken");
        let used = |queue: &mut DriverQueue| -> Vec<_> {
            std::iter::from_fn(|| queue.next_used(&card.memory)).collect()
        };
        assert_eq!(used(&mut card.transmit), [(0, 0), (1, 0)]);
        assert_eq!(used(&mut card.receive), [(0, 12 + 6), (1, 12 + 5)]);
        assert_eq!(&card.got(1, 17)[12..], b"after");
    }
}

/// The driver need not notify while there are buffers, and is asked to when they are missed: by the new card
/// as by the old one.
#[test]
fn notifications_are_asked_for_by_the_new_card() {
    let mut card = Card::new(ALL_FEATURES & !abi::FEATURE_EVENT_IDX, 16);
    let declined = |card: &Card| -> u16 {
        card.memory.read_obj(GuestAddress(card.receive.rings.used)).unwrap()
    };
    card.want(0, 2048);
    card.arrive(&[1; 60]);
    card.service();
    assert_eq!(declined(&card), 1);
    card.park();
    card.service();
    assert_eq!(declined(&card), 1, "nothing waits for a buffer");
    card.arrive(&[2; 60]);
    card.service();
    assert_eq!((declined(&card), card.pipe.0.wanted.get()), (0, false));
    card.park();
    card.service();
    assert_eq!((declined(&card), card.pipe.0.wanted.get()), (0, false));
    card.want(1, 2048);
    assert!(card.service().raised);
    assert_eq!(declined(&card), 1);
}

#[test]
fn interrupts_stay_suppressed_as_the_driver_asks() {
    let mut card = Card::new(ALL_FEATURES, 16);
    let used_event = GuestAddress(card.transmit.rings.available + 4 + 2 * 16);
    card.memory.write_obj(3_u16, used_event).unwrap();
    for (head, raised) in [(0, false), (1, false), (2, false), (3, true), (4, false)] {
        card.send(head, &with_header(b"x"));
        card.park();
        assert_eq!(card.line.0.get(), 0);
        assert_eq!(card.service().raised, raised, "used event 3, frame {head}");
        card.bus.put(abi::INTERRUPT_ACK, 3);
    }
}

#[test]
fn a_copy_has_an_address_of_its_own_and_its_driver_is_told() {
    let mut card = Card::new(ALL_FEATURES, 16);
    card.service();
    let state = saved(&mut card.bus, &card.memory);
    let mac = |bus: &Bus<Memory>| bus.read(0, abi::CONFIG + 2, 4);
    let (mut same, line) = restored(made(&card.pipe), &state, &card.memory).unwrap();
    assert_eq!((line.0.get(), same.get(abi::INTERRUPT_STATUS)), (0, 0));
    assert_eq!(mac(&same), mac(&card.bus));
    let device = with_config(&card.pipe, [2, 0, 0, 0, 0, 9], MTU);
    let (copy, line) = restored(device, &state, &card.memory).unwrap();
    assert_eq!((line.0.get(), copy.get(abi::INTERRUPT_STATUS)), (1, 2));
    assert_eq!(mac(&copy), 0x0900_0000);
    let generations = [&copy, &card.bus].map(|bus| bus.get(abi::CONFIG_GENERATION));
    assert_ne!(generations[0], generations[1], "who reads it meanwhile reads it again");
    same.put(abi::STATUS, 0);
    let state = saved(&mut same, &card.memory);
    let device = with_config(&card.pipe, [2, 0, 0, 0, 0, 9], MTU);
    let (_, line) = restored(device, &state, &card.memory).unwrap();
    assert_eq!(line.0.get(), 0, "there is no driver");
}

#[test]
fn another_mtu_and_other_features_are_refused() {
    let mut card = Card::new(ALL_FEATURES, 16);
    let state = saved(&mut card.bus, &card.memory);
    let device = with_config(&card.pipe, [2, 0, 0, 0, 0, 1], 1400);
    let error = restored(device, &state, &card.memory).err().unwrap();
    assert_eq!(error.to_string(), "device 0: the card had an MTU of 1500, and now has 1400");
    let mut state = serde_json::to_value(&state).unwrap();
    let features = ALL_FEATURES | 1 << 40;
    state["devices"][0]["driver_features"] = features.into();
    let state = serde_json::from_value(state).unwrap();
    let error = restored(made(&card.pipe), &state, &card.memory).err().unwrap();
    let expected = "device 0: its driver uses features that it does not offer now: 0x10000000000";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_card_that_carries_connections_goes_on() {
    let mut card = Card::new(ALL_FEATURES, 16);
    card.send(0, &with_header(b"first"));
    card.service();
    card.pipe.0.busy.set(Some("carries connections"));
    card.send(1, &with_header(b"second"));
    let refused = card.bus.save(&card.memory).unwrap_err();
    assert_eq!(refused.to_string(), "device 0 carries connections");
    card.service();
    assert_eq!(card.pipe.0.taken.borrow().len(), 2);
}

#[test]
fn limits_of_both_directions_go_on() {
    let limiter = |bytes| RateLimiter::new(Some(TokenBucket::new(bytes, 0, 1_000_000_000)), None);
    let mut card = Card::limited(ALL_FEATURES, [limiter(60), limiter(100)]);
    for head in 0..4 {
        card.send(head, &with_header(&[0; 50]));
        card.want(head, 2048);
        card.arrive(&[0; 60]);
    }
    card.service();
    let progress =
        |card: &Card| [&card.receive, &card.transmit].map(|queue| queue.used_index(&card.memory));
    let (before, deadline) = (progress(&card), card.bus.deadline());
    let device = made(&card.pipe).limited(limiter(60), limiter(100));
    park(&mut card.bus, &card.memory, Box::new(device));
    card.service();
    assert_eq!((progress(&card), card.bus.deadline()), (before, deadline));
    card.bus.service(&card.memory, deadline.unwrap());
    assert_ne!(progress(&card), before);
}

/// What the outside does.
fn event(pipe: &Pipe, number: u32) {
    pipe.0.full.set(number.is_multiple_of(3));
    pipe.0.down.set(number.is_multiple_of(5));
    let mut waiting = pipe.0.waiting.borrow_mut();
    if waiting.len() < 64 {
        waiting.push_back((WAITING, vec![7; number as usize % 3000]));
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_a_driver_has_done_can_be_moved(
        actions in prop::collection::vec(action(2), 1..60),
        features in prop::sample::select(&FEATURES[..]),
    ) {
        let pipe = Pipe::default();
        let mut card = Wild::new(made(&pipe), features, 16);
        for action in &actions {
            card.apply(action, &mut |number| event(&pipe, number));
            card.park(made(&pipe), &[]);
        }
    }

    #[test]
    fn no_state_harms_the_monitor(
        before in prop::collection::vec(action(2), 1..40),
        changes in prop::collection::vec(change(), 1..4),
        after in prop::collection::vec(action(2), 1..40),
        features in prop::sample::select(&FEATURES[..]),
    ) {
        let pipe = Pipe::default();
        let mut card = Wild::new(made(&pipe), features, 16);
        before.iter().for_each(|action| card.apply(action, &mut |n| event(&pipe, n)));
        card.park(made(&pipe), &changes);
        after.iter().for_each(|action| card.apply(action, &mut |n| event(&pipe, n)));
    }

    /// However often the card is moved, frames arrive in order, each once, both ways.
    #[test]
    fn frames_arrive_once_across_moves(
        steps in prop::collection::vec((0..4_u8, any::<bool>()), 1..100),
        features in prop::sample::select(&FEATURES[..]),
    ) {
        let mut card = Card::new(features, 16);
        let (mut sent, mut wanted, mut arrived) = (0_u16, 0_u16, 0_u16);
        let (mut returned, mut got) = (0_u16, 0_u16);
        for (step, moved) in steps {
            match step {
                0 if sent - returned < 16 => {
                    card.send(sent % 16, &with_header(&sent.to_le_bytes()));
                    sent += 1;
                }
                1 if wanted - got < 16 => {
                    card.want(wanted % 16, 2048);
                    wanted += 1;
                }
                2 => {
                    card.arrive(&arrived.to_le_bytes());
                    arrived += 1;
                }
                _ => drop(card.service()),
            }
            if moved {
                card.park();
            }
            while let Some((head, _)) = card.transmit.next_used(&card.memory) {
                prop_assert_eq!(head, u32::from(returned % 16));
                returned += 1;
            }
            while let Some((head, length)) = card.receive.next_used(&card.memory) {
                prop_assert_eq!((head, length), (u32::from(got % 16), 14));
                prop_assert_eq!(&card.got(got % 16, 14)[12..], got.to_le_bytes());
                got += 1;
            }
        }
        card.park();
        card.service();
        while card.receive.next_used(&card.memory).is_some() {
            got += 1;
        }
        let taken = card.pipe.0.taken.borrow();
        let numbers: Vec<_> = taken.iter().map(|(_, frame)| frame.clone()).collect();
        let expected: Vec<_> = (0..sent).map(|number| number.to_le_bytes().to_vec()).collect();
        prop_assert_eq!(numbers, expected);
        prop_assert_eq!(usize::from(arrived - got), card.pipe.0.waiting.borrow().len());
    }
}
