//! Tests of the device while batching is off: one completed request, one interrupt.

use super::*;
use proptest::prelude::*;

/// Without event indices the driver is interrupted whenever the device would like to.
const PLAIN: u64 = FEATURES & !abi::FEATURE_EVENT_IDX;

fn drive(store: Store) -> Drive {
    let mut drive = Drive::with(store, PLAIN, 256, |device| device);
    drive.bus.deliver_singly(true);
    drive
}

fn read(drive: &mut Drive, head: u16) {
    drive.offer(head, abi::BLOCK_REQUEST_IN, head.into(), (DATA + 512 * u64::from(head), 512));
}

#[test]
fn each_completion_has_an_interrupt_of_its_own() {
    let mut drive = drive(Store::new());
    for head in [0, 3, 6, 9] {
        read(&mut drive, head);
    }
    for (done, head) in [0_u16, 3, 6, 9].into_iter().enumerate() {
        let service = drive.service();
        assert_eq!((service.raised, service.more), (true, head != 9), "request {head}");
        assert_eq!(drive.queue.next_used(&drive.memory), Some((head.into(), 513)));
        assert_eq!(drive.counter("reads"), done as u64 + 1);
        assert_eq!(drive.queue.next_used(&drive.memory), None);
    }
    assert_eq!(drive.service(), crate::Service::default());
    assert_eq!(drive.line.0.get(), 4);
}

#[test]
fn nothing_is_gathered() {
    let store = Store::new();
    let mut drive = drive(store.clone());
    // As many requests as would be gathered otherwise, at a pace at which it would pay.
    for round in 0..50_u64 {
        store.0.borrow_mut().held = true;
        for head in 0..20 {
            read(&mut drive, 3 * head);
        }
        drive.now_ns = (round + 1) * 100_000;
        assert_eq!(drive.service(), crate::Service::default());
        store.0.borrow_mut().held = false;
        for left in (0..20).rev() {
            drive.now_ns += 5_000;
            let service = drive.service();
            assert_eq!((service.raised, service.more), (true, left > 0));
        }
        while drive.queue.next_used(&drive.memory).is_some() {}
    }
    assert!(store.0.borrow().wakes.iter().all(|wake| *wake == Wake::AtNext));
    assert_eq!((drive.counter("held"), drive.line.0.get()), (0, 1000));
    assert_eq!(drive.bus.deadline(), None);
}

#[test]
fn a_reset_forgets_what_was_not_told() {
    let mut drive = drive(Store::new());
    for head in [0, 3, 6] {
        read(&mut drive, head);
    }
    assert!(drive.service().more);
    drive.bus.put(abi::STATUS, 0);
    assert_eq!(drive.bus.get(abi::STATUS), 0, "nothing is in flight");
    drive.memory = memory();
    drive.queue = DriverQueue::new(drive.queue.rings);
    drive.set_up(PLAIN);
    assert_eq!(drive.service(), crate::Service::default());
    read(&mut drive, 0);
    read(&mut drive, 3);
    assert!(drive.service().more, "it outlasts the reset");
    assert_eq!(drive.queue.used_index(&drive.memory), 1);
}

proptest! {
    /// However requests and services alternate, each is returned once, and no sweep returns two.
    #[test]
    fn every_request_is_returned_once(steps in prop::collection::vec((0..80_u16, any::<bool>(), any::<bool>()), 1..200)) {
        let store = Store::new();
        let mut drive = drive(store.clone());
        let mut out = [false; 80];
        let mut offered = 0_u64;
        for (head, serve, held) in steps {
            store.0.borrow_mut().held = held;
            if !out[usize::from(head)] {
                out[usize::from(head)] = true;
                offered += 1;
                read(&mut drive, 3 * head);
            }
            if serve {
                drive.service();
                let used = drive.queue.next_used(&drive.memory);
                prop_assert_eq!(drive.queue.next_used(&drive.memory), None);
                if let Some((head, _)) = used {
                    prop_assert!(std::mem::take(&mut out[head as usize / 3]));
                }
            }
        }
        store.0.borrow_mut().held = false;
        while out.iter().any(|out| *out) {
            drive.service();
            let (head, _) = drive.queue.next_used(&drive.memory).expect("each service returns one");
            prop_assert!(std::mem::take(&mut out[head as usize / 3]));
        }
        prop_assert!(!drive.service().more && !drive.broken());
        prop_assert_eq!((drive.counter("reads"), drive.line.0.get()), (offered, offered));
    }
}
