//! Flushes of a whole block device: what they promise has happened when the driver sees them done.

use super::*;
use denali_abi::virtio as abi;
use denali_devices::Interrupt;
use denali_devices::block::{BlockConfig, BlockDevice, Geometry};
use denali_devices::virtio::Transport;
use std::cell::RefCell;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

type Memory = GuestMemoryMmap<()>;

const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const STATUS: u64 = 0x5000;
const DATA: u64 = 0x1_0000;
const LENGTH: u32 = 1 << 20;

struct NoLine;

impl Interrupt for NoLine {
    fn raise(&self) {}
}

/// What happened, in order, with the used index that the driver saw at that moment.
type Trace = Rc<RefCell<Vec<(&'static str, u16)>>>;

/// A disk that says when its requests begin and complete.
struct Traced {
    disk: Disk,
    memory: Memory,
    trace: Trace,
    flushes: Vec<RequestId>,
}

impl Traced {
    fn note(&self, what: &'static str) {
        self.trace.borrow_mut().push((what, used_index(&self.memory)));
    }
}

impl BlockBackend for Traced {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        if operation == Operation::Flush {
            self.flushes.push(id);
            self.note("flush begins");
        }
        // SAFETY: passed on unchanged.
        unsafe { self.disk.submit(id, operation, slices) };
    }
    fn start(&mut self) {
        self.disk.start();
    }
    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        let mut outcomes = Vec::new();
        self.disk.completed(&mut |id, outcome| outcomes.push((id, outcome)));
        for (id, outcome) in outcomes {
            if self.flushes.contains(&id) {
                self.note("flush completed");
            }
            done(id, outcome);
        }
    }
    fn wake(&mut self, when: Wake) {
        self.disk.wake(when);
    }
    fn drain(&mut self) -> bool {
        self.disk.drain()
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.disk.counters()
    }
}

fn used_index(memory: &Memory) -> u16 {
    memory.read_obj(GuestAddress(USED + 2)).unwrap()
}

/// Sets the device up with one queue of 8 entries.
fn start(device: &mut Transport<Memory>) {
    let mut put = |offset: u16, value: u32| device.write(offset, 4, value);
    put(abi::STATUS, 3);
    put(abi::DRIVER_FEATURES, abi::BLOCK_FEATURE_FLUSH as u32);
    put(abi::DRIVER_FEATURES_SEL, 1);
    put(abi::DRIVER_FEATURES, 1);
    put(abi::STATUS, 11);
    put(abi::QUEUE_SIZE, 8);
    put(abi::QUEUE_DESC_LOW, 0x1000);
    put(abi::QUEUE_DRIVER_LOW, AVAILABLE as u32);
    put(abi::QUEUE_DEVICE_LOW, USED as u32);
    put(abi::QUEUE_READY, 1);
    put(abi::STATUS, 15);
}

/// Offers a request as number `number` and waits until it is done.
fn request(device: &mut Transport<Memory>, memory: &Memory, number: u16, kind: u32, length: u32) {
    let put = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at)).unwrap();
    put(HEADER, kind.into());
    put(HEADER + 8, 0);
    let descriptors: &[(u64, u32, u32)] = if length > 0 {
        &[(HEADER, 16, 0x1_0001), (DATA, length, 0x2_0001), (STATUS, 1, 2)]
    } else {
        &[(HEADER, 16, 0x1_0001), (STATUS, 1, 2)]
    };
    for (index, &(address, length, flags)) in (0..).zip(descriptors) {
        put(0x1000 + 16 * index, address);
        put(0x1008 + 16 * index, u64::from(length) | u64::from(flags) << 32);
    }
    memory.write_obj(0_u16, GuestAddress(AVAILABLE + 4 + 2 * u64::from(number % 8))).unwrap();
    memory.write_obj(number + 1, GuestAddress(AVAILABLE + 2)).unwrap();
    let begun = std::time::Instant::now();
    while used_index(memory) == number {
        device.service(memory, 1 + begun.elapsed().as_nanos() as u64);
        assert!(begun.elapsed().as_secs() < 60, "hangs");
    }
    assert_eq!(memory.read_obj::<u8>(GuestAddress(STATUS)).unwrap(), abi::BLOCK_STATUS_OK);
}

/// Pages of a file that are only in the page cache: not yet written, or being written. `None` where the
/// kernel does not tell (Linux 6.5).
fn unwritten_pages(file: &File) -> Option<u64> {
    const CACHESTAT: libc::c_long = 451;
    let range = [0_u64, 0];
    let mut counts = [0_u64; 5];
    // SAFETY: range and result have the size the call wants, and are valid during it.
    let done = unsafe {
        libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0)
    };
    (done == 0).then(|| counts[1] + counts[2])
}

#[test]
fn a_flush_is_done_for_the_driver_only_when_the_bytes_are_on_the_disk() {
    for method in METHODS {
        let Bench { folder, disk } = Bench::one(method);
        let file = File::open(path(&folder, 0)).unwrap();
        let memory = Memory::from_ranges(&[(GuestAddress(0x1000), 4 << 20)]).unwrap();
        let trace = Trace::default();
        let traced =
            Traced { disk, memory: memory.clone(), trace: trace.clone(), flushes: Vec::new() };
        let device = BlockDevice::new(BlockConfig::new("disk", false), traced);
        let mut device = Transport::new(Box::new(device), Box::new(NoLine));
        start(&mut device);
        memory.write_slice(&pattern(LENGTH as usize, 1), GuestAddress(DATA)).unwrap();
        request(&mut device, &memory, 0, abi::BLOCK_REQUEST_OUT, LENGTH);
        request(&mut device, &memory, 1, abi::BLOCK_REQUEST_FLUSH, 0);
        // The used index still was at the write when the host had written everything out.
        let expected = [("flush begins", 1), ("flush completed", 1)];
        assert_eq!(*trace.borrow(), expected, "{method:?}");
        assert_eq!(used_index(&memory), 2);
        if let Some(unwritten) = unwritten_pages(&file) {
            assert_eq!(unwritten, 0, "{method:?}: the flush is done and pages are dirty");
        }
    }
}

#[test]
fn a_write_alone_promises_nothing_so_that_the_test_above_means_something() {
    let mut bench = Bench::one(Method::Auto);
    let file = File::open(path(&bench.folder, 0)).unwrap();
    let mut written = pattern(1 << 20, 2);
    let write = |durable| Operation::Write { offset: 0, durable };
    assert_eq!(bench.run_one(write(true), &mut written), Ok(()));
    let Some(unwritten) = unwritten_pages(&file) else { return };
    assert_eq!(unwritten, 0, "a durable write is on the disk");
    // The host may write pages out by itself at any time, but not every time at once.
    let dirty = (0..20).any(|_| {
        assert_eq!(bench.run_one(write(false), &mut written), Ok(()));
        unwritten_pages(&file) != Some(0)
    });
    assert!(dirty, "pages that are not written out are seen");
}
