//! Properties of the block device that hold whatever a driver does.

use super::*;
use crate::testing::wild::{Action, Wild, action, cases, features};
use proptest::prelude::*;

/// A store that also sees to it that no slice is outside guest memory.
fn device(store: &Store) -> Box<BlockDevice<Store>> {
    Box::new(BlockDevice::new(BlockConfig::new("wild", false), store.clone()))
}

/// What the outside does: completions come, come late, or come to nothing.
fn event(store: &Store, number: u32) {
    let mut state = store.0.borrow_mut();
    state.held = number.is_multiple_of(3);
    state.fails = number.is_multiple_of(5);
    state.last_in_first_out = number.is_multiple_of(2);
}

pub(super) fn inside(memory: &Memory, store: &Store) -> bool {
    let range = memory.get_slices(GuestAddress(0x1000), MEMORY_SIZE - 0x1000, Permissions::Read);
    let whole = range.unwrap().next().unwrap().unwrap();
    let start = whole.ptr_guard().as_ptr() as usize;
    let state = store.0.borrow();
    let slices = state.submitted.iter().flat_map(|(_, _, slices)| slices);
    slices
        .into_iter()
        .all(|slice| slice.address >= start && slice.address + slice.length <= start + whole.len())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn no_driver_harms_the_monitor(
        actions in prop::collection::vec(action(1), 1..150),
        size in prop_oneof![Just(16_u16), Just(1), Just(256)],
        features in features(FEATURES),
    ) {
        let store = Store::new();
        let mut wild = Wild::new(device(&store), features, size);
        for action in &actions {
            wild.apply(action, &mut |number| event(&store, number));
            prop_assert!(inside(&wild.memory, &store), "outside guest memory");
        }
        store.0.borrow_mut().held = false;
        wild.apply(&Action::Service, &mut |_| {});
        wild.apply(&Action::Service, &mut |_| {});
        prop_assert!(store.0.borrow().in_flight.len() <= usize::from(size));
    }

    /// Requests of any kind that mean well in their form are each returned once, whatever else.
    #[test]
    fn requests_are_returned_once(
        requests in prop::collection::vec((0..16_u32, 0..SECTORS + 4, 0..5_u32, any::<u32>()), 1..64),
    ) {
        let mut drive = Drive::new();
        let mut out = BTreeSet::new();
        for (number, &(kind, sector, sectors, outside)) in (0_u16..).zip(&requests) {
            let head = number % 80 * 3;
            out.insert(u32::from(head));
            drive.offer(head, kind, sector, (DATA, sectors * 512));
            event(&drive.store, outside);
            drive.service();
            while let Some((head, _)) = drive.queue.next_used(&drive.memory) {
                prop_assert!(out.remove(&head), "{head} is returned twice, or was never offered");
                prop_assert!(drive.status(head as u16) <= UNSUPP);
            }
        }
        drive.store.0.borrow_mut().held = false;
        drive.service();
        while let Some((head, _)) = drive.queue.next_used(&drive.memory) {
            prop_assert!(out.remove(&head));
        }
        prop_assert_eq!(out, BTreeSet::new(), "all are returned");
        prop_assert!(!drive.broken());
    }
}

#[test]
fn memory_that_changes_underneath_harms_nobody() {
    for seed in 0..20 {
        let store = Store::new();
        let mut wild = Wild::new(device(&store), FEATURES, 16);
        for index in 0..16_u16 {
            let flags = [1, 3, 2][usize::from(index) % 3];
            let address = crate::testing::wild::BUFFERS + u64::from(index) * 0x400;
            wild.queues[0].descriptor(&wild.memory, index, (address, 512, flags, index + 1));
        }
        wild.torn(seed * 77, &mut |number| event(&store, number));
        assert!(inside(&wild.memory, &store));
    }
}
