//! A driver for property tests that does anything a guest can do to a device.

use crate::Bus;
use crate::testing::*;
use denali_abi::virtio as abi;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

/// Where well-meant buffers are.
pub const BUFFERS: u64 = 0x10_0000;

/// Anything a driver can do.
#[derive(Clone, Debug)]
pub enum Action {
    Register { offset: u16, width: usize, value: u32 },
    Descriptor { queue: usize, index: u16, address: u64, length: u32, flags: u16, next: u16 },
    Offer { queue: usize, head: u16 },
    AvailableIndex { queue: usize, index: u16 },
    Scribble { at: u64, value: u64 },
    Service { elapsed_ns: u64 },
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => BUFFERS..BUFFERS + 0x1_0000,
        2 => 0x10_000..0x20_000_u64,
        1 => MEMORY_SIZE as u64 - 64..MEMORY_SIZE as u64 + 64,
        1 => any::<u64>(),
    ]
}

/// Any action on a device with so many queues of 16 entries.
pub fn action(queues: usize) -> impl Strategy<Value = Action> {
    let length = prop_oneof![4 => 0..2048_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 2 => 0..8_u16, 1 => any::<u16>()];
    let value = prop_oneof![0..16_u32, any::<u32>()];
    let small = prop_oneof![8 => 0..16_u16, 1 => any::<u16>()];
    let queue = 0..queues;
    prop_oneof![
        2 => (0..0x200_u16, prop_oneof![Just(4_usize), 0..9_usize], value)
            .prop_map(|(offset, width, value)| Action::Register { offset, width, value }),
        6 => (queue.clone(), 0..16_u16, address(), length, flags, small.clone()).prop_map(
            |(queue, index, address, length, flags, next)| Action::Descriptor {
                queue, index, address, length, flags, next
            }
        ),
        6 => (queue.clone(), small).prop_map(|(queue, head)| Action::Offer { queue, head }),
        1 => (queue, any::<u16>())
            .prop_map(|(queue, index)| Action::AvailableIndex { queue, index }),
        1 => (0x10_000..0x20_000_u64, any::<u64>())
            .prop_map(|(at, value)| Action::Scribble { at, value }),
        6 => (0..1_000_000_u64).prop_map(|elapsed_ns| Action::Service { elapsed_ns }),
    ]
}

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

    pub fn apply(&mut self, action: &Action) {
        match *action {
            Action::Register { offset, width, value } => {
                self.bus.write(0, offset, width, value);
                let _ = self.bus.read(0, offset, width);
            }
            Action::Descriptor { queue, index, address, length, flags, next } => {
                let ring = &self.queues[queue];
                ring.descriptor(&self.memory, index, (address, length, flags, next));
            }
            Action::Offer { queue, head } => self.queues[queue].offer(&self.memory, head),
            Action::AvailableIndex { queue, index } => {
                let ring = &mut self.queues[queue];
                ring.available = index;
                self.memory.write_obj(index, GuestAddress(ring.rings.available + 2)).unwrap();
            }
            Action::Scribble { at, value } => {
                self.memory.write_obj(value, GuestAddress(at)).unwrap();
            }
            Action::Service { elapsed_ns } => {
                self.now_ns += elapsed_ns;
                let service = self.service();
                assert!(!(service.more && self.broken()), "a broken device has nothing to do");
            }
        }
    }
}
