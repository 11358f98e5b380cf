//! Properties of the card that hold whatever a driver does.

use super::*;
use crate::testing::wild::cases;
use proptest::prelude::*;

/// Anything a driver can do.
#[derive(Clone, Debug)]
enum Action {
    Register { offset: u16, width: usize, value: u32 },
    Descriptor { queue: bool, index: u16, address: u64, length: u32, flags: u16, next: u16 },
    Offer { queue: bool, head: u16 },
    AvailableIndex { queue: bool, index: u16 },
    Scribble { at: u64, value: u64 },
    Frame { header: [u8; NET_HEADER], length: usize },
    Service,
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => BUFFERS..BUFFERS + 0x1_0000,
        2 => 0x10_000..0x20_000_u64,
        1 => MEMORY_SIZE as u64 - 64..MEMORY_SIZE as u64 + 64,
        1 => any::<u64>(),
    ]
}

fn header() -> impl Strategy<Value = [u8; NET_HEADER]> {
    let segment = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    prop_oneof![Just(WAITING), Just(segment), any::<[u8; NET_HEADER]>()]
}

fn action() -> impl Strategy<Value = Action> {
    let length = prop_oneof![4 => 0..2048_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 2 => 0..8_u16, 1 => any::<u16>()];
    let value = prop_oneof![0..16_u32, any::<u32>()];
    let small = prop_oneof![8 => 0..16_u16, 1 => any::<u16>()];
    let index = 0..16_u16;
    prop_oneof![
        2 => (0..0x200_u16, prop_oneof![Just(4_usize), 0..9_usize], value)
            .prop_map(|(offset, width, value)| Action::Register { offset, width, value }),
        6 => (any::<bool>(), index, address(), length, flags, small.clone()).prop_map(
            |(queue, index, address, length, flags, next)| Action::Descriptor {
                queue, index, address, length, flags, next
            }
        ),
        6 => (any::<bool>(), small).prop_map(|(queue, head)| Action::Offer { queue, head }),
        1 => (any::<bool>(), any::<u16>())
            .prop_map(|(queue, index)| Action::AvailableIndex { queue, index }),
        1 => (0x10_000..0x20_000_u64, any::<u64>())
            .prop_map(|(at, value)| Action::Scribble { at, value }),
        2 => (header(), prop_oneof![1..4000_usize, 0..70_000_usize])
            .prop_map(|(header, length)| Action::Frame { header, length }),
        6 => Just(Action::Service),
    ]
}

fn apply(card: &mut Card, action: &Action) {
    match *action {
        Action::Register { offset, width, value } => {
            card.bus.write(0, offset, width, value);
            let _ = card.bus.read(0, offset, width);
        }
        Action::Descriptor { queue, index, address, length, flags, next } => {
            let ring = if queue { &card.transmit } else { &card.receive };
            ring.descriptor(&card.memory, index, (address, length, flags, next));
        }
        Action::Offer { queue, head } => {
            let memory = &card.memory;
            if queue {
                card.transmit.offer(memory, head);
            } else {
                card.receive.offer(memory, head);
            }
        }
        Action::AvailableIndex { queue, index } => {
            let ring = if queue { &mut card.transmit } else { &mut card.receive };
            ring.available = index;
            card.memory.write_obj(index, GuestAddress(ring.rings.available + 2)).unwrap();
        }
        Action::Scribble { at, value } => {
            card.memory.write_obj(value, GuestAddress(at)).unwrap();
        }
        Action::Frame { header, length } => {
            let mut waiting = card.pipe.0.waiting.borrow_mut();
            if waiting.len() < 64 {
                waiting.push_back((header, vec![7; length]));
            }
        }
        Action::Service => {
            let service = card.service();
            assert!(!(service.more && card.broken()), "a broken device has nothing to do");
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_driver_harms_the_monitor(
        actions in prop::collection::vec(action(), 1..120),
        size in prop_oneof![Just(16_u16), Just(1), Just(256)],
        features in prop_oneof![
            Just(ALL_FEATURES), Just(abi::FEATURE_VERSION_1), Just(ALL_FEATURES | large::FEATURES)
        ],
    ) {
        let mut card = Card::new(features, size);
        for action in &actions {
            apply(&mut card, action);
        }
    }

    /// Whatever the chains are, every one that was offered is returned at most once, in order.
    #[test]
    fn buffers_are_returned_once(
        chains in prop::collection::vec((0..16_u16, 0..3_u16, 0..2000_u32, 0..16_u16), 1..64),
    ) {
        let mut card = Card::new(ALL_FEATURES, 16);
        let mut offered = VecDeque::new();
        for &(head, flags, length, next) in &chains {
            card.transmit.descriptor(&card.memory, head, (BUFFERS, length, flags, next));
            card.transmit.offer(&card.memory, head);
            offered.push_back(u32::from(head));
            card.service();
            while let Some((used, written)) = card.transmit.next_used(&card.memory) {
                prop_assert_eq!(Some(used), offered.pop_front());
                prop_assert_eq!(written, 0);
            }
            if card.broken() {
                break;
            }
            prop_assert!(offered.is_empty(), "a queue that is not broken is drained");
        }
    }
}
