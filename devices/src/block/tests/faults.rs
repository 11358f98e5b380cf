//! What goes wrong: bad requests, broken queues, failing disks, resets with requests in flight.

use super::*;

#[test]
fn bad_requests_are_refused_and_harm_no_others() {
    let mut drive = Drive::new();
    let (read, write) = (abi::BLOCK_REQUEST_IN, abi::BLOCK_REQUEST_OUT);
    for (kind, sector, length, status) in [
        (read, SECTORS, 512, IOERR),
        (read, SECTORS - 1, 1024, IOERR),
        (read, u64::MAX, 512, IOERR),
        (read, u64::MAX / 512, 512, IOERR),
        (read, u64::MAX / 512 + 1, 512, IOERR),
        (write, u64::MAX - 1, 512, IOERR),
        (write, SECTORS, 512, IOERR),
        (read, 0, 513, IOERR),
        (read, 0, 511, IOERR),
        (write, 0, 100, IOERR),
        (write, 0, 0, IOERR),
        (99, 0, 512, UNSUPP),
        (2, 0, 512, UNSUPP),
        (u32::MAX, 0, 512, UNSUPP),
    ] {
        let (got, used) = drive.request(kind, sector, (DATA, length));
        assert_eq!(got, status, "{kind} {sector} {length}");
        assert_eq!(used, u32::from(kind != read), "no data is promised");
        assert!(!drive.broken());
    }
    assert_eq!(drive.counter("refused"), 14);
    assert_eq!(drive.store.0.borrow().log, []);
    assert_eq!(drive.request(read, 0, (DATA, 512)), (OK, 513));
}

#[test]
fn a_request_without_room_for_its_status_is_returned_unanswered() {
    let mut drive = Drive::new();
    let header = drive.header(0, abi::BLOCK_REQUEST_FLUSH, 0);
    drive.queue.descriptor(&drive.memory, 0, (header, 16, 0, 0));
    drive.queue.offer(&drive.memory, 0);
    drive.service();
    assert_eq!(drive.queue.next_used(&drive.memory), Some((0, 0)));
    assert!(!drive.broken());
}

#[test]
fn a_short_header_gets_an_error() {
    let mut drive = Drive::new();
    drive.queue.descriptor(&drive.memory, 0, (HEADERS, 15, 1, 1));
    drive.queue.descriptor(&drive.memory, 1, (STATUSES, 1, 2, 0));
    drive.queue.offer(&drive.memory, 0);
    drive.service();
    assert_eq!(drive.queue.next_used(&drive.memory), Some((0, 1)));
    assert_eq!(drive.status(0), IOERR);
}

#[test]
fn header_data_and_status_may_lie_in_any_buffers() {
    let mut drive = Drive::new();
    let header = drive.header(0, abi::BLOCK_REQUEST_IN, 4);
    // The header in two pieces; the data in three, the last of which holds the status.
    for (index, descriptor) in [
        (header, 5, 1, 1),
        (header + 5, 11, 1, 2),
        (DATA, 100, 3, 3),
        (DATA + 4096, 411, 3, 4),
        (DATA + 8192, 2, 2, 0),
    ]
    .into_iter()
    .enumerate()
    {
        drive.queue.descriptor(&drive.memory, index as u16, descriptor);
    }
    drive.queue.offer(&drive.memory, 0);
    drive.service();
    assert_eq!(drive.queue.next_used(&drive.memory), Some((0, 513)));
    let sector = drive.store.0.borrow().bytes[2048..2560].to_vec();
    assert_eq!(drive.bytes(DATA, 100), sector[..100]);
    assert_eq!(drive.bytes(DATA + 4096, 411), sector[100..511]);
    assert_eq!(drive.bytes(DATA + 8192, 2), [sector[511], OK]);
}

#[test]
fn segments_are_limited_in_size() {
    const MAX: u32 = 4 << 20;
    let store = Store::new();
    store.0.borrow_mut().sectors = 1 << 20;
    store.0.borrow_mut().held = true;
    let mut drive = Drive::with(store, FEATURES, 256, |device| device);
    drive.memory = Memory::from_ranges(&[(GuestAddress(0x1000), 16 << 20)]).unwrap();
    drive.offer(0, abi::BLOCK_REQUEST_IN, 0, (DATA, MAX + 512));
    drive.offer(3, abi::BLOCK_REQUEST_IN, 0, (DATA, MAX));
    drive.service();
    assert_eq!(drive.queue.next_used(&drive.memory), Some((0, 0)));
    assert_eq!(drive.status(0), IOERR);
    assert_eq!(drive.queue.next_used(&drive.memory), None);
    assert_eq!(drive.store.0.borrow().submitted.len(), 1, "the other is in flight");
}

#[test]
fn segments_are_limited_in_number() {
    // Through an indirect table a chain has as many descriptors as the queue has entries, and no more.
    for (segments, broken) in [(254_u16, false), (255, true)] {
        let mut drive = Drive::new();
        let header = drive.header(0, abi::BLOCK_REQUEST_IN, 0);
        let table = 0x20_0000;
        write_descriptor(&drive.memory, table, 0, (header, 16, 1, 1));
        for index in 1..=segments {
            let at = DATA + u64::from(index) * 2048;
            write_descriptor(&drive.memory, table, index, (at, 512, 3, index + 1));
        }
        write_descriptor(&drive.memory, table, segments + 1, (STATUSES, 1, 2, 0));
        let length = u32::from(segments + 2) * 16;
        drive.queue.descriptor(&drive.memory, 0, (table, length, 4, 0));
        drive.queue.offer(&drive.memory, 0);
        drive.service();
        assert_eq!(drive.broken(), broken);
        let used = drive.queue.next_used(&drive.memory);
        assert_eq!(used, (!broken).then_some((0, 254 * 512 + 1)));
    }
}

#[test]
fn a_disk_that_fails_fails_its_requests() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().fails = true;
    assert_eq!(drive.request(abi::BLOCK_REQUEST_IN, 0, (DATA, 512)), (IOERR, 0));
    assert_eq!(drive.request(abi::BLOCK_REQUEST_FLUSH, 0, (0, 0)), (IOERR, 1));
    assert_eq!((drive.counter("errors"), drive.counter("reads")), (2, 0));
}

#[test]
fn a_chain_that_is_in_flight_is_not_taken_again() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().held = true;
    drive.offer(0, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
    drive.service();
    drive.queue.offer(&drive.memory, 0);
    assert!(drive.service().raised && drive.broken());
    drive.store.0.borrow_mut().held = false;
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 0, "a broken queue is left alone");
    assert!(drive.store.0.borrow().in_flight.is_empty(), "what was in flight ends");
    assert_eq!(drive.bus.deadline(), None);
}

#[test]
fn a_reset_waits_for_what_is_in_flight() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().held = true;
    drive.offer(0, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
    drive.service();
    drive.bus.put(abi::STATUS, 0);
    assert_eq!(drive.store.0.borrow().drains, 1);
    assert!(drive.store.0.borrow().in_flight.is_empty());
    assert_eq!(drive.bus.get(abi::STATUS), 0);
    assert_eq!(drive.queue.used_index(&drive.memory), 0);
    drive.queue = DriverQueue::new(drive.queue.rings);
    drive.memory.write_obj(0_u32, GuestAddress(drive.queue.rings.available)).unwrap();
    drive.set_up(FEATURES);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_IN, 0, (DATA, 512)), (OK, 513));
}

#[test]
fn a_disk_that_hangs_keeps_the_device_from_being_used_again_until_it_lets_go() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().stuck = true;
    drive.offer(0, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
    drive.service();
    drive.bus.put(abi::STATUS, 0);
    assert_eq!(drive.bus.get(abi::STATUS), abi::STATUS_NEEDS_RESET, "the reset is not over");
    assert_ne!(drive.bus.negotiate(FEATURES), 11);
    drive.service();
    assert_ne!(drive.bus.get(abi::STATUS), 0);
    drive.store.0.borrow_mut().stuck = false;
    drive.service();
    assert_eq!(drive.bus.get(abi::STATUS), 0);
    assert_eq!(drive.bus.negotiate(FEATURES), 11);
}

#[test]
fn completions_of_many_requests_are_told_together_and_never_late() {
    let mut drive = Drive::with(Store::new(), abi::FEATURE_VERSION_1, 256, |device| device);
    // A pace of 5 microseconds is learned first.
    for round in 0..20_u64 {
        drive.now_ns = 1 + round * 200_000;
        for number in 0..40_u16 {
            drive.offer(number * 3, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
        }
        drive.store.0.borrow_mut().held = true;
        drive.service();
        drive.store.0.borrow_mut().held = false;
        drive.now_ns += 40 * 5_000;
        assert!(drive.service().raised);
    }
    drive.store.0.borrow_mut().held = true;
    for number in 0..40_u16 {
        drive.offer(number * 3, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
    }
    drive.service();
    let wake = *drive.store.0.borrow().wakes.last().unwrap();
    assert!(matches!(wake, Wake::After(time) if time <= 100_000), "{wake:?}");
    // Three complete: they are in the ring, and the driver hears of them within 100 microseconds.
    let late = {
        let mut state = drive.store.0.borrow_mut();
        state.held = false;
        state.submitted.split_off(3)
    };
    let raised = drive.service().raised;
    assert!(!raised);
    assert_eq!(drive.queue.used_index(&drive.memory), 20 * 40 + 3);
    let told_at = drive.bus.deadline().expect("they are held");
    assert_eq!(told_at, drive.now_ns + 100_000);
    drive.now_ns = told_at;
    assert!(drive.service().raised);
    assert_eq!(drive.bus.deadline(), None);
    assert_eq!(drive.counter("held"), 1);
    drive.store.0.borrow_mut().submitted = late;
    assert!(drive.service().raised, "the rest: nothing is in flight any more");
}
