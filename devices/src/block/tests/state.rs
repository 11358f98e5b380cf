//! A block device that is saved and goes on elsewhere.

use super::*;
use crate::testing::parking::{change, park, restored, saved};
use crate::testing::wild::{Wild, action, cases, features};
use proptest::prelude::*;

const READ: u32 = abi::BLOCK_REQUEST_IN;
const WRITE: u32 = abi::BLOCK_REQUEST_OUT;

fn made(store: &Store) -> Box<BlockDevice<Store>> {
    Box::new(BlockDevice::new(BlockConfig::new("disk0", false), store.clone()))
}

impl Drive {
    /// Moves the device; the sectors stay.
    fn park(&mut self) {
        self.line = park(&mut self.bus, &self.memory, made(&self.store));
    }

    fn used(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.queue.next_used(&self.memory)).map(|(head, _)| head).collect()
    }
}

#[test]
fn what_is_in_flight_is_completed_and_what_is_offered_goes_on() {
    for features in [FEATURES, FEATURES & !abi::FEATURE_EVENT_IDX] {
        let mut drive = Drive::with(Store::new(), features, 256, |device| device);
        drive.store.0.borrow_mut().held = true;
        drive.offer(0, WRITE, 0, (DATA, 512));
        drive.offer(3, READ, 1, (DATA + 512, 512));
        assert!(!drive.service().raised);
        drive.offer(6, WRITE, 2, (DATA, 512));
        let old = drive.line.clone();
        drive.park();
        assert_eq!((drive.store.0.borrow().drains, old.0.get()), (1, 1));
        assert_eq!(drive.line.0.get(), 1, "it is told of again");
        assert_eq!((drive.used(), drive.status(0), drive.status(3)), (vec![0, 3], OK, OK));
        assert_eq!(drive.store.0.borrow().log.len(), 2);
        drive.bus.put(abi::INTERRUPT_ACK, 3);
        drive.queue.ask_for_interrupt(&drive.memory);
        assert!(drive.service().raised);
        assert_eq!((drive.used(), drive.status(6)), (vec![6], OK));
        assert_eq!(drive.store.0.borrow().log.len(), 3, "each was done once");
    }
}

#[test]
fn completions_whose_interrupt_is_held_are_told() {
    let mut drive = Drive::new();
    for number in 0..64_u16 {
        drive.offer(number * 3, READ, 0, (DATA, 512));
    }
    drive.bus.deliver_singly(true);
    assert!(drive.service().more);
    assert_eq!((drive.used().len(), drive.line.0.get()), (1, 1));
    drive.park();
    assert_eq!((drive.used().len(), drive.line.0.get()), (63, 1));
}

#[test]
fn a_disk_that_hangs_is_not_saved_and_goes_on() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().stuck = true;
    drive.offer(0, WRITE, 0, (DATA, 512));
    drive.service();
    drive.offer(3, WRITE, 1, (DATA, 512));
    let refused = drive.bus.save(&drive.memory).unwrap_err();
    assert_eq!(refused.to_string(), "device 0 has requests in flight that do not complete");
    assert_eq!(drive.store.0.borrow().wakes.last(), Some(&Wake::AtNext), "it is waited for");
    assert!(drive.used().is_empty());
    drive.store.0.borrow_mut().stuck = false;
    assert!(drive.service().raised);
    assert_eq!(drive.used(), [0, 3]);
    saved(&mut drive.bus, &drive.memory);
}

/// A reset, or a broken queue, whose last requests are still in flight.
#[test]
fn a_reset_is_over_before_the_device_is_saved() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().stuck = true;
    drive.offer(0, WRITE, 0, (DATA, 512));
    drive.service();
    drive.bus.put(abi::STATUS, 0);
    assert!(drive.broken(), "the reset is not over");
    assert!(drive.bus.save(&drive.memory).is_err());
    drive.store.0.borrow_mut().stuck = false;
    drive.park();
    assert_eq!((drive.bus.get(abi::STATUS), drive.used()), (0, vec![]));

    let mut drive = Drive::new();
    drive.store.0.borrow_mut().held = true;
    drive.offer(0, WRITE, 0, (DATA, 512));
    drive.offer(0, WRITE, 0, (DATA, 512));
    drive.service();
    assert!(drive.broken());
    drive.park();
    assert!(drive.broken() && drive.store.0.borrow().in_flight.is_empty());
    assert!(drive.used().is_empty());
}

#[test]
fn another_disk_is_refused() {
    let mut drive = Drive::new();
    let state = saved(&mut drive.bus, &drive.memory);
    let refused = |change: fn(&mut State)| {
        let store = Store::new();
        change(&mut store.0.borrow_mut());
        restored(made(&store), &state, &drive.memory).err().unwrap().to_string()
    };
    assert_eq!(
        refused(|state| state.sectors = 1024),
        "device 0: the disk had 2048 sectors, and now has 1024"
    );
    assert_eq!(
        refused(|state| state.read_only = true),
        "device 0: the disk could be written, and is read-only now"
    );
}

#[test]
fn a_limit_is_not_filled_up_by_a_move() {
    let limiter = || RateLimiter::new(None, Some(TokenBucket::new(2, 3, 1_000_000_000)));
    let mut drive = Drive::with(Store::new(), FEATURES, 256, |device| device.limited(limiter()));
    for number in 0..8_u16 {
        drive.offer(number * 3, READ, 0, (DATA, 512));
    }
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 5);
    let ready = drive.bus.deadline();
    let device = made(&drive.store).limited(limiter());
    park(&mut drive.bus, &drive.memory, Box::new(device));
    drive.service();
    assert_eq!((drive.queue.used_index(&drive.memory), drive.bus.deadline()), (5, ready));
    drive.now_ns = ready.unwrap();
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 6);
}

/// What the outside does: completions come, come late, or come to nothing.
fn event(store: &Store, number: u32) {
    let mut state = store.0.borrow_mut();
    state.held = number.is_multiple_of(3);
    state.fails = number.is_multiple_of(5);
    state.last_in_first_out = number.is_multiple_of(2);
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_a_driver_has_done_can_be_moved(
        actions in prop::collection::vec(action(1), 1..60),
        features in features(FEATURES),
    ) {
        let store = Store::new();
        let mut wild = Wild::new(made(&store), features, 16);
        for action in &actions {
            wild.apply(action, &mut |number| event(&store, number));
            wild.park(made(&store), &[]);
            prop_assert!(store.0.borrow().in_flight.is_empty());
        }
    }

    #[test]
    fn no_state_harms_the_monitor(
        before in prop::collection::vec(action(1), 1..40),
        changes in prop::collection::vec(change(), 1..4),
        after in prop::collection::vec(action(1), 1..40),
        features in features(FEATURES),
    ) {
        let store = Store::new();
        let mut wild = Wild::new(made(&store), features, 16);
        before.iter().for_each(|action| wild.apply(action, &mut |n| event(&store, n)));
        wild.park(made(&store), &changes);
        for action in &after {
            wild.apply(action, &mut |number| event(&store, number));
            prop_assert!(properties::inside(&wild.memory, &store), "outside guest memory");
        }
    }

    /// However often the device is moved, each request is done once, and returned once.
    #[test]
    fn requests_are_done_once_across_moves(
        steps in prop::collection::vec((0..3_u8, any::<u32>()), 1..100),
    ) {
        let mut drive = Drive::new();
        let mut out = BTreeSet::new();
        let mut next = 0_u16;
        for &(step, outside) in &steps {
            event(&drive.store, outside);
            drive.store.0.borrow_mut().fails = false;
            match step {
                0 if out.len() < 80 => {
                    drive.offer(next % 80 * 3, WRITE, u64::from(next), (DATA, 512));
                    out.insert(u32::from(next % 80 * 3));
                    next += 1;
                }
                1 => drop(drive.service()),
                _ => drive.park(),
            }
            for head in drive.used() {
                prop_assert!(out.remove(&head), "{head} is returned twice");
            }
        }
        drive.store.0.borrow_mut().held = false;
        drive.service();
        for head in drive.used() {
            prop_assert!(out.remove(&head), "{head} is returned twice");
        }
        prop_assert_eq!(out, BTreeSet::new());
        let mut done: Vec<_> = drive.store.0.borrow().log.iter().map(|it| format!("{it:?}")).collect();
        done.sort();
        let write = |number: u16| Operation::Write { offset: u64::from(number) * 512, durable: false };
        let mut expected: Vec<_> = (0..next).map(|number| format!("{:?}", write(number))).collect();
        expected.sort();
        prop_assert_eq!(done, expected);
    }
}
