//! A driver for tests: sets a device up and works its rings from the guest's side.

use crate::virtio::Transport;
use crate::{Bus, Interrupt};
use denali_abi::virtio as abi;
use std::cell::Cell;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub mod driver;
pub mod parking;
pub mod wild;

pub type Memory = GuestMemoryMmap<()>;

pub const MEMORY_SIZE: usize = 4 << 20;
pub const ALL_FEATURES: u64 = abi::FEATURE_VERSION_1
    | abi::FEATURE_EVENT_IDX
    | abi::FEATURE_INDIRECT_DESC
    | abi::NET_FEATURE_CSUM
    | abi::NET_FEATURE_GUEST_CSUM
    | abi::NET_FEATURE_MAC
    | abi::NET_FEATURE_MTU;

/// Memory whose first page is missing, as in a guest.
pub fn memory() -> Memory {
    let start = GuestAddress(0x1000);
    GuestMemoryMmap::from_ranges(&[(start, MEMORY_SIZE - 0x1000)]).unwrap()
}

/// Counts how often it is raised.
#[derive(Clone, Default)]
pub struct CountedLine(pub Rc<Cell<u64>>);

impl Interrupt for CountedLine {
    fn raise(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Where a test puts the rings of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Rings {
    /// Rings of queue number `queue`, each in pages of its own.
    pub fn standard(queue: u16, size: u16) -> Self {
        let base = 0x10_000 + u64::from(queue) * 0x8000;
        Self { size, descriptors: base, available: base + 0x4000, used: base + 0x6000 }
    }
}

/// One side of the register file: what a driver does with a device.
pub trait Registers {
    fn put(&mut self, offset: u16, value: u32);
    fn get(&self, offset: u16) -> u32;

    /// Negotiates up to `FEATURES_OK`; the status afterwards.
    fn negotiate(&mut self, features: u64) -> u32 {
        self.put(abi::STATUS, 0);
        self.put(abi::STATUS, abi::STATUS_ACKNOWLEDGE);
        self.put(abi::STATUS, abi::STATUS_ACKNOWLEDGE | abi::STATUS_DRIVER);
        for half in 0..2 {
            self.put(abi::DRIVER_FEATURES_SEL, half);
            self.put(abi::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        self.put(abi::STATUS, 3 | abi::STATUS_FEATURES_OK);
        self.get(abi::STATUS)
    }

    fn set_up(&mut self, queue: u16, rings: &Rings) {
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        self.put(abi::QUEUE_SEL, queue.into());
        self.put(abi::QUEUE_SIZE, rings.size.into());
        for (low, value) in [
            (abi::QUEUE_DESC_LOW, rings.descriptors),
            (abi::QUEUE_DRIVER_LOW, rings.available),
            (abi::QUEUE_DEVICE_LOW, rings.used),
        ] {
            self.put(low, halves(value)[0]);
            self.put(low + 4, halves(value)[1]);
        }
        self.put(abi::QUEUE_READY, 1);
    }

    fn start(&mut self) {
        self.put(abi::STATUS, 15);
    }
}

impl Registers for Bus<Memory> {
    fn put(&mut self, offset: u16, value: u32) {
        self.write(0, offset, 4, value);
    }
    fn get(&self, offset: u16) -> u32 {
        self.read(0, offset, 4)
    }
}

impl Registers for Transport<Memory> {
    fn put(&mut self, offset: u16, value: u32) {
        self.write(offset, 4, value);
    }
    fn get(&self, offset: u16) -> u32 {
        self.read(offset, 4)
    }
}

/// The driver's side of one queue's rings.
pub struct DriverQueue {
    pub rings: Rings,
    pub available: u16,
    pub seen: u16,
}

impl DriverQueue {
    pub fn new(rings: Rings) -> Self {
        Self { rings, available: 0, seen: 0 }
    }

    pub fn descriptor(
        &self,
        memory: &Memory,
        index: u16,
        (address, length, flags, next): (u64, u32, u16, u16),
    ) {
        write_descriptor(memory, self.rings.descriptors, index, (address, length, flags, next));
    }

    pub fn offer(&mut self, memory: &Memory, head: u16) {
        let slot = u64::from(self.available % self.rings.size);
        memory.write_obj(head, GuestAddress(self.rings.available + 4 + 2 * slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        memory.write_obj(self.available, GuestAddress(self.rings.available + 2)).unwrap();
    }

    /// Wants to hear of what is returned next, where it was agreed that the driver says so.
    pub fn ask_for_interrupt(&self, memory: &Memory) {
        let used_event = self.rings.available + 4 + 2 * u64::from(self.rings.size);
        memory.write_obj(self.seen, GuestAddress(used_event)).unwrap();
    }

    pub fn used_index(&self, memory: &Memory) -> u16 {
        memory.read_obj(GuestAddress(self.rings.used + 2)).unwrap()
    }

    /// The next used element: head and bytes written.
    pub fn next_used(&mut self, memory: &Memory) -> Option<(u32, u32)> {
        if self.seen == self.used_index(memory) {
            return None;
        }
        let at = self.rings.used + 4 + 8 * u64::from(self.seen % self.rings.size);
        self.seen = self.seen.wrapping_add(1);
        let head = memory.read_obj(GuestAddress(at)).unwrap();
        Some((head, memory.read_obj(GuestAddress(at + 4)).unwrap()))
    }
}

pub fn write_descriptor(
    memory: &Memory,
    table: u64,
    index: u16,
    (address, length, flags, next): (u64, u32, u16, u16),
) {
    let at = table + 16 * u64::from(index);
    memory.write_obj(address, GuestAddress(at)).unwrap();
    memory.write_obj(length, GuestAddress(at + 8)).unwrap();
    memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
    memory.write_obj(next, GuestAddress(at + 14)).unwrap();
}
