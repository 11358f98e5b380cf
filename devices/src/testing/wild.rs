//! Drivers that do anything at all, for properties that every device must hold.

use super::parking::{Change, damaged, restored, saved};
use super::{CountedLine, DriverQueue, MEMORY_SIZE, Memory, Registers, Rings, memory};
use crate::Bus;
use crate::virtio::VirtioDevice;
use denali_abi::virtio as abi;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{Bytes, GuestAddress};

/// Where buffers are that mean well.
pub const BUFFERS: u64 = 0x10_0000;

/// So many cases of a property; those that fail are printed, and kept nowhere.
pub fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// What a driver agrees to: all that there is, or as little as can be.
pub fn features(all: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(all), Just(abi::FEATURE_VERSION_1)]
}

/// Anything a driver can do, and time and the outside beside it.
#[derive(Clone, Debug)]
pub enum Action {
    Register { offset: u16, width: usize, value: u32 },
    Descriptor { queue: usize, index: u16, address: u64, length: u32, flags: u16, next: u16 },
    Offer { queue: usize, head: u16 },
    AvailableIndex { queue: usize, index: u16 },
    Scribble { at: u64, value: u64 },
    Event(u32),
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

/// Something that a driver of a device with so many queues can do.
pub fn action(queues: usize) -> impl Strategy<Value = Action> {
    let length = prop_oneof![2 => Just(512_u32), 4 => 0..2048_u32, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0..4_u16, 2 => 0..8_u16, 1 => any::<u16>()];
    let value = prop_oneof![0..16_u32, any::<u32>()];
    let small = prop_oneof![8 => 0..16_u16, 1 => any::<u16>()];
    let number = prop_oneof![4 => 0..16_u64, 1 => any::<u64>()];
    let scribbled = prop_oneof![BUFFERS..BUFFERS + 0x200, 0x10_000..0x20_000_u64];
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
        2 => (scribbled, number).prop_map(|(at, value)| Action::Scribble { at, value }),
        2 => any::<u32>().prop_map(Action::Event),
        6 => Just(Action::Service),
    ]
}

/// A device and the driver that goes wild on it.
pub struct Wild {
    pub memory: Memory,
    pub bus: Bus<Memory>,
    pub queues: Vec<DriverQueue>,
    now_ns: u64,
}

impl Wild {
    /// A device that was set up as it should be, with rings of `size` entries.
    pub fn new(device: Box<dyn VirtioDevice<Memory>>, features: u64, size: u16) -> Self {
        let mut bus = Bus::new();
        let queues = device.queue_sizes().len();
        bus.attach(device, Box::new(CountedLine::default())).unwrap();
        assert_eq!(bus.negotiate(features), 11, "features are agreed");
        let rings: Vec<_> = (0..queues as u16).map(|queue| Rings::standard(queue, size)).collect();
        for (queue, rings) in (0..).zip(&rings) {
            bus.set_up(queue, rings);
        }
        bus.start();
        let queues = rings.into_iter().map(DriverQueue::new).collect();
        Self { memory: memory(), bus, queues, now_ns: 0 }
    }

    /// Does one thing; `event` does what the outside does.
    pub fn apply(&mut self, action: &Action, event: &mut dyn FnMut(u32)) {
        let Self { memory, bus, queues, now_ns } = self;
        match *action {
            Action::Register { offset, width, value } => {
                bus.write(0, offset, width, value);
                let _ = bus.read(0, offset, width);
            }
            Action::Descriptor { queue, index, address, length, flags, next } => {
                queues[queue].descriptor(memory, index, (address, length, flags, next));
            }
            Action::Offer { queue, head } => queues[queue].offer(memory, head),
            Action::AvailableIndex { queue, index } => {
                queues[queue].available = index;
                let at = GuestAddress(queues[queue].rings.available + 2);
                memory.write_obj(index, at).unwrap();
            }
            Action::Scribble { at, value } => {
                memory.write_obj(value, GuestAddress(at)).unwrap();
            }
            Action::Event(number) => event(number),
            Action::Service => {
                *now_ns += 50_000;
                let service = bus.service(memory, *now_ns);
                assert!(!(service.more && self.broken()), "a broken device has nothing to do");
            }
        }
    }

    /// Moves to `device`, which was just made, by way of the device's state. What a driver has brought about
    /// can be moved, whatever it is; if the state is changed on the way, it may be refused.
    pub fn park(&mut self, device: Box<dyn VirtioDevice<Memory>>, changes: &[Change]) {
        let state = saved(&mut self.bus, &self.memory);
        let Some(state) = damaged(&state, changes) else { return };
        match restored(device, &state, &self.memory) {
            Ok((bus, _)) => self.bus = bus,
            Err(error) => assert!(!changes.is_empty(), "{error}"),
        }
    }

    pub fn broken(&self) -> bool {
        self.bus.get(abi::STATUS) & abi::STATUS_NEEDS_RESET != 0
    }

    /// Services the device while another thread changes rings and buffers under it.
    pub fn torn(&mut self, seed: u64, event: &mut dyn FnMut(u32)) {
        let stop = AtomicBool::new(false);
        let memory = self.memory.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut state = seed | 1;
                while !stop.load(Ordering::Relaxed) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let spread = (state >> 33) % 0x1000;
                    let at = if state >> 63 == 0 { BUFFERS } else { 0x10_000 } + spread * 8;
                    let value =
                        if spread.is_multiple_of(3) { state >> 40 } else { BUFFERS + spread };
                    memory.write_obj(value, GuestAddress(at)).unwrap();
                }
            });
            for round in 0..50 {
                let head = (round % 16) as u16;
                for queue in 0..self.queues.len() {
                    self.apply(&Action::Offer { queue, head }, event);
                }
                self.apply(&Action::Event(round), event);
                self.apply(&Action::Service, event);
                if self.broken() {
                    self.restart();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Sets the device up again after it gave up.
    pub fn restart(&mut self) {
        self.bus.negotiate(abi::FEATURE_VERSION_1);
        for (number, queue) in (0..).zip(&mut self.queues) {
            self.bus.set_up(number, &queue.rings);
            queue.available = 0;
            queue.seen = 0;
            self.memory.write_obj(0_u32, GuestAddress(queue.rings.available)).unwrap();
            self.memory.write_obj(0_u32, GuestAddress(queue.rings.used)).unwrap();
        }
        self.bus.start();
    }
}
