//! Tests of the block device, from the driver's side of its ring, against a back end in memory.

use super::*;
use crate::Bus;
use crate::rate::{RateLimiter, TokenBucket};
use crate::testing::*;
use crate::virtio::HostSlice;
use denali_abi::virtio as abi;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

mod faults;
mod properties;
mod singly;
mod state;

const SECTORS: u64 = 2048;
const FEATURES: u64 = abi::FEATURE_VERSION_1
    | abi::FEATURE_EVENT_IDX
    | abi::FEATURE_INDIRECT_DESC
    | abi::BLOCK_FEATURE_FLUSH
    | abi::BLOCK_FEATURE_SEG_MAX;

/// Sectors in memory, whose requests complete when the test says so.
#[derive(Clone)]
struct Store(Rc<RefCell<State>>);

struct State {
    bytes: Vec<u8>,
    sectors: u64,
    read_only: bool,
    submitted: Vec<(RequestId, Operation, Vec<HostSlice>)>,
    in_flight: BTreeSet<RequestId>,
    /// Requests complete only when they are let go.
    held: bool,
    /// Requests never complete, whatever anybody does.
    stuck: bool,
    fails: bool,
    last_in_first_out: bool,
    log: Vec<Operation>,
    wakes: Vec<Wake>,
    drains: u32,
}

impl Store {
    fn new() -> Self {
        let mut bytes = vec![0; SECTORS as usize * 512];
        for (number, sector) in bytes.chunks_mut(512).enumerate() {
            sector.fill(number as u8);
            sector[99..101].fill(!number as u8);
            sector[511] = (number >> 8) as u8 ^ 0x55;
        }
        Self(Rc::new(RefCell::new(State {
            bytes,
            sectors: SECTORS,
            read_only: false,
            submitted: Vec::new(),
            in_flight: BTreeSet::new(),
            held: false,
            stuck: false,
            fails: false,
            last_in_first_out: false,
            log: Vec::new(),
            wakes: Vec::new(),
            drains: 0,
        })))
    }
}

impl State {
    fn perform(&mut self, operation: Operation, slices: &[HostSlice]) -> Result<(), Failed> {
        if self.fails {
            return Err(Failed);
        }
        self.log.push(operation);
        match operation {
            Operation::Read { offset } => {
                let mut at = offset as usize;
                for slice in slices {
                    // SAFETY: the device keeps guest memory mapped while the request is in flight.
                    unsafe { slice.copy_from(&self.bytes[at..at + slice.length]) };
                    at += slice.length;
                }
            }
            Operation::Write { offset, .. } => {
                let mut at = offset as usize;
                for slice in slices {
                    // SAFETY: as above.
                    unsafe { slice.copy_to(&mut self.bytes[at..at + slice.length]) };
                    at += slice.length;
                }
            }
            Operation::Flush => {}
            Operation::Discard { offset, length }
            | Operation::WriteZeroes { offset, length, .. } => {
                self.bytes[offset as usize..][..length as usize].fill(0);
            }
        }
        Ok(())
    }
}

impl BlockBackend for Store {
    fn geometry(&self) -> Geometry {
        let State { sectors, read_only, .. } = *self.0.borrow();
        Geometry { sectors, block_size: 512, read_only, discard: true, write_zeroes: true }
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        let mut state = self.0.borrow_mut();
        assert!(state.in_flight.insert(id), "{id} is in flight twice");
        state.submitted.push((id, operation, slices.to_vec()));
    }

    fn start(&mut self) {}

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        let mut state = self.0.borrow_mut();
        if state.held || state.stuck {
            return;
        }
        let mut submitted = std::mem::take(&mut state.submitted);
        if state.last_in_first_out {
            submitted.reverse();
        }
        for (id, operation, slices) in submitted {
            assert!(state.in_flight.remove(&id));
            let outcome = state.perform(operation, &slices);
            done(id, outcome);
        }
    }

    fn wake(&mut self, when: Wake) {
        let mut state = self.0.borrow_mut();
        assert!(!state.in_flight.is_empty(), "nothing is waited for");
        state.wakes.push(when);
    }

    fn drain(&mut self) -> bool {
        let mut state = self.0.borrow_mut();
        state.drains += 1;
        state.held = false;
        !state.stuck
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

const HEADERS: u64 = 0x10_0000;
const STATUSES: u64 = 0x11_0000;
const DATA: u64 = 0x12_0000;

struct Drive {
    memory: Memory,
    bus: Bus<Memory>,
    line: CountedLine,
    store: Store,
    queue: DriverQueue,
    now_ns: u64,
}

impl Drive {
    fn new() -> Self {
        Self::with(Store::new(), FEATURES, 256, |device| device)
    }

    fn with(
        store: Store,
        features: u64,
        size: u16,
        change: impl FnOnce(BlockDevice<Store>) -> BlockDevice<Store>,
    ) -> Self {
        let line = CountedLine::default();
        let mut bus = Bus::new();
        let device = BlockDevice::new(BlockConfig::new("disk0", false), store.clone());
        bus.attach(Box::new(change(device)), Box::new(line.clone())).unwrap();
        let rings = Rings::standard(0, size);
        let mut drive =
            Self { memory: memory(), bus, line, store, queue: DriverQueue::new(rings), now_ns: 1 };
        drive.set_up(features);
        drive
    }

    fn set_up(&mut self, features: u64) {
        assert_eq!(self.bus.negotiate(features), 11, "features are agreed");
        self.bus.set_up(0, &self.queue.rings);
        self.bus.start();
    }

    fn service(&mut self) -> crate::Service {
        self.bus.service(&self.memory, self.now_ns)
    }

    fn status(&self, head: u16) -> u8 {
        self.memory.read_obj(GuestAddress(STATUSES + u64::from(head))).unwrap()
    }

    fn header(&self, head: u16, kind: u32, sector: u64) -> u64 {
        let at = HEADERS + u64::from(head) * 16;
        self.memory.write_obj(u64::from(kind), GuestAddress(at)).unwrap();
        self.memory.write_obj(sector, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(0xff_u8, GuestAddress(STATUSES + u64::from(head))).unwrap();
        at
    }

    /// Offers a request of up to three descriptors: header, `length` bytes at `at`, status.
    fn offer(&mut self, head: u16, kind: u32, sector: u64, (at, length): (u64, u32)) {
        let header = self.header(head, kind, sector);
        let into = matches!(kind, abi::BLOCK_REQUEST_IN | abi::BLOCK_REQUEST_GET_ID);
        let (queue, memory) = (&mut self.queue, &self.memory);
        let (data, status) = (head + 1, head + 2);
        let next = if length > 0 { data } else { status };
        queue.descriptor(memory, head, (header, 16, 1, next));
        queue.descriptor(memory, data, (at, length, if into { 3 } else { 1 }, status));
        queue.descriptor(memory, status, (STATUSES + u64::from(head), 1, 2, 0));
        queue.offer(memory, head);
    }

    /// Does one request; its status and the length in its used element.
    fn request(&mut self, kind: u32, sector: u64, data: (u64, u32)) -> (u8, u32) {
        self.offer(0, kind, sector, data);
        self.service();
        let (head, length) = self.queue.next_used(&self.memory).expect("returned");
        assert_eq!(head, 0);
        (self.status(0), length)
    }

    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn broken(&self) -> bool {
        self.bus.get(abi::STATUS) & abi::STATUS_NEEDS_RESET != 0
    }

    fn counter(&self, name: &str) -> u64 {
        self.bus.counters(0).into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

const OK: u8 = abi::BLOCK_STATUS_OK;
const IOERR: u8 = abi::BLOCK_STATUS_IOERR;
const UNSUPP: u8 = abi::BLOCK_STATUS_UNSUPP;

#[test]
fn what_is_written_is_read_back() {
    let mut drive = Drive::new();
    drive.memory.write_slice(&[0x5a; 1024], GuestAddress(DATA)).unwrap();
    assert_eq!(drive.request(abi::BLOCK_REQUEST_OUT, 7, (DATA, 1024)), (OK, 1));
    assert_eq!(drive.store.0.borrow().bytes[7 * 512..9 * 512], [0x5a; 1024]);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_IN, 6, (DATA + 4096, 2048)), (OK, 2049));
    let expected = drive.store.0.borrow().bytes[6 * 512..10 * 512].to_vec();
    assert_eq!(drive.bytes(DATA + 4096, 2048), expected);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_FLUSH, 0, (0, 0)), (OK, 1));
    let log = drive.store.0.borrow().log.clone();
    assert_eq!(log[0], Operation::Write { offset: 3584, durable: false });
    assert_eq!(log[2], Operation::Flush);
    assert_eq!((drive.counter("reads"), drive.counter("read_bytes")), (1, 2048));
    assert_eq!((drive.counter("writes"), drive.counter("write_bytes")), (1, 1024));
    assert_eq!((drive.counter("flushes"), drive.counter("refused")), (1, 0));
}

#[test]
fn a_driver_that_never_flushes_has_durable_writes() {
    let features = FEATURES & !abi::BLOCK_FEATURE_FLUSH;
    let mut drive = Drive::with(Store::new(), features, 16, |device| device);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_OUT, 0, (DATA, 512)), (OK, 1));
    let log = drive.store.0.borrow().log.clone();
    assert_eq!(log, [Operation::Write { offset: 0, durable: true }]);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let mut drive = Drive::new();
    let range = |drive: &Drive, sector: u64, sectors: u32, flags: u32| {
        drive.memory.write_obj(sector, GuestAddress(DATA)).unwrap();
        drive.memory.write_obj(sectors, GuestAddress(DATA + 8)).unwrap();
        drive.memory.write_obj(flags, GuestAddress(DATA + 12)).unwrap();
    };
    range(&drive, 3, 2, 1);
    let zero = abi::BLOCK_REQUEST_WRITE_ZEROES;
    assert_eq!(drive.request(zero, 0, (DATA, 16)), (OK, 1));
    let expected = Operation::WriteZeroes { offset: 1536, length: 1024, unmap: true };
    assert_eq!(drive.store.0.borrow().log, [expected]);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_DISCARD, 0, (DATA, 16)), (UNSUPP, 1));
    range(&drive, 3, 2, 0);
    assert_eq!(drive.request(abi::BLOCK_REQUEST_DISCARD, 0, (DATA, 16)), (OK, 1));
    assert_eq!(drive.request(zero, 0, (DATA, 32)), (IOERR, 1), "more ranges than allowed");
    assert_eq!(drive.request(zero, 0, (DATA, 15)), (IOERR, 1));
    range(&drive, 3, 2, 2);
    assert_eq!(drive.request(zero, 0, (DATA, 16)), (UNSUPP, 1), "an unknown flag");
    for (sector, sectors) in [(SECTORS, 1), (SECTORS - 1, 2), (u64::MAX, 2), (0, 1 << 23)] {
        range(&drive, sector, sectors, 0);
        assert_eq!(drive.request(zero, 0, (DATA, 16)), (IOERR, 1), "{sector} {sectors}");
    }
    range(&drive, SECTORS, 0, 0);
    assert_eq!(drive.request(zero, 0, (DATA, 16)), (OK, 1), "nothing is always done");
    assert_eq!((drive.counter("discards"), drive.counter("write_zeroes")), (1, 1));
}

#[test]
fn the_device_tells_its_name_and_its_limits() {
    let mut drive = Drive::new();
    assert_eq!(drive.request(abi::BLOCK_REQUEST_GET_ID, 0, (DATA, 20)), (OK, 21));
    assert_eq!(drive.bytes(DATA, 20), *b"disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(drive.request(abi::BLOCK_REQUEST_GET_ID, 0, (DATA, 19)), (IOERR, 0));
    let config = |offset, width| drive.bus.read(0, abi::CONFIG + offset, width);
    assert_eq!(config(abi::BLOCK_CONFIG_CAPACITY, 4), SECTORS as u32);
    assert_eq!(config(abi::BLOCK_CONFIG_CAPACITY + 4, 4), 0);
    assert_eq!(config(abi::BLOCK_CONFIG_SEG_MAX, 4), 254);
    assert_eq!(config(abi::BLOCK_CONFIG_SIZE_MAX, 4), 4 << 20);
    assert_eq!(config(abi::BLOCK_CONFIG_BLK_SIZE, 4), 512);
    assert_eq!(config(abi::BLOCK_CONFIG_MAX_DISCARD_SEG, 4), 1);
    assert_eq!(config(abi::BLOCK_CONFIG_WRITE_ZEROES_MAY_UNMAP, 1), 1);
    assert_eq!(drive.bus.get(abi::DEVICE_ID), 2);
}

#[test]
fn a_read_only_device_says_so_and_refuses_writes() {
    let store = Store::new();
    store.0.borrow_mut().read_only = true;
    let features = FEATURES | abi::BLOCK_FEATURE_RO;
    let mut drive = Drive::with(store, features, 16, |device| device);
    assert_eq!(drive.bus.negotiate(FEATURES | abi::BLOCK_FEATURE_DISCARD), 3, "no discard");
    drive.set_up(features);
    for kind in [abi::BLOCK_REQUEST_OUT, abi::BLOCK_REQUEST_DISCARD] {
        assert_eq!(drive.request(kind, 0, (DATA, if kind == 1 { 512 } else { 16 })), (IOERR, 1));
    }
    assert_eq!(drive.request(abi::BLOCK_REQUEST_IN, 0, (DATA, 512)), (OK, 513));
    assert!(drive.store.0.borrow().log.len() == 1);
}

#[test]
fn many_requests_complete_in_any_order_each_once() {
    let mut drive = Drive::new();
    drive.store.0.borrow_mut().last_in_first_out = true;
    for number in 0..80_u16 {
        let at = DATA + u64::from(number) * 512;
        drive.offer(number * 3, abi::BLOCK_REQUEST_IN, u64::from(number), (at, 512));
    }
    assert!(drive.service().raised);
    assert_eq!(drive.line.0.get(), 1, "one interrupt for all of them");
    let mut returned = Vec::new();
    while let Some((head, length)) = drive.queue.next_used(&drive.memory) {
        assert_eq!(length, 513);
        returned.push(head);
    }
    let expected: Vec<_> = (0..80).rev().map(|number| number * 3).collect();
    assert_eq!(returned, expected);
    let content = drive.store.0.borrow().bytes[..80 * 512].to_vec();
    assert_eq!(drive.bytes(DATA, 80 * 512), content);
}

#[test]
fn requests_wait_for_their_rate_limit() {
    let ops = TokenBucket::new(4, 0, 1_000_000_000);
    let limiter = RateLimiter::new(None, Some(ops));
    let mut drive = Drive::with(Store::new(), FEATURES, 256, |device| device.limited(limiter));
    for number in 0..6_u16 {
        drive.offer(number * 3, abi::BLOCK_REQUEST_IN, 0, (DATA, 512));
    }
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 4);
    let ready = drive.bus.deadline().expect("the fifth waits");
    drive.now_ns = ready - 1;
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 4);
    drive.now_ns = ready;
    drive.service();
    assert_eq!(drive.queue.used_index(&drive.memory), 5);
    drive.bus.put(abi::STATUS, 0);
    assert_eq!(drive.bus.deadline(), None, "nothing waits after a reset");
}
