//! A well-meaning driver of a whole device, for tests.

use super::{DriverQueue, Memory, Registers, Rings, memory};
use crate::Bus;
use denali_abi::virtio as abi;
use vm_memory::{Bytes, GuestAddress};

/// Where buffers are.
pub const BUFFERS: u64 = 0x10_0000;

/// A driver of device 0 of a bus.
pub struct Driver {
    pub memory: Memory,
    pub bus: Bus<Memory>,
    pub queues: Vec<DriverQueue>,
    pub now_ns: u64,
}

impl Driver {
    /// Starts device 0 of `bus`, with so many queues of `size` entries.
    pub fn start(mut bus: Bus<Memory>, features: u64, queues: u16, size: u16) -> Self {
        assert_eq!(bus.negotiate(features), 11, "features are agreed");
        let rings = (0..queues).map(|queue| Rings::standard(queue, size));
        let queues: Vec<_> = rings.map(DriverQueue::new).collect();
        for (number, queue) in (0..).zip(&queues) {
            bus.set_up(number, &queue.rings);
        }
        bus.start();
        Self { memory: memory(), bus, queues, now_ns: 1 }
    }

    pub fn service(&mut self) -> crate::Service {
        self.bus.service(&self.memory, self.now_ns)
    }

    pub fn broken(&self) -> bool {
        self.bus.get(abi::STATUS) & abi::STATUS_NEEDS_RESET != 0
    }

    /// Offers the buffer of a descriptor, alone in its chain: 4 KiB of room for each.
    pub fn offer(&mut self, queue: usize, head: u16, length: u32, writable: bool) -> u64 {
        let at = BUFFERS + 0x1_0000 * queue as u64 + 0x1000 * u64::from(head);
        let flags = if writable { 2 } else { 0 };
        self.queues[queue].descriptor(&self.memory, head, (at, length, flags, 0));
        self.queues[queue].offer(&self.memory, head);
        at
    }

    /// The bytes of a buffer.
    pub fn bytes(&self, at: u64, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Chains returned on a queue since this was last asked: head and bytes written.
    pub fn used(&mut self, queue: usize) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| self.queues[queue].next_used(&self.memory)).collect()
    }
}
