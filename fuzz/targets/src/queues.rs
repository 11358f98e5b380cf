//! Queues and registers of all devices under a driver that does anything, and devices that move meanwhile.

use crate::input::Input;
use crate::machine::{
    BUFFERS, ENTRIES, MEMORY_END, Memory, QUEUES, RINGS, bus, is_broken, memory, rings, start,
};
use crate::memory::bounded;
use denali_devices::Bus;
use vm_memory::{Bytes, GuestAddress};

/// Most things that one input does.
const STEPS_MAX: usize = 200;
/// Bytes that the devices may allocate, the frames that their wire holds included.
const ALLOCATED_MAX: usize = 2 << 20;

/// The input: the features that drivers take (one byte spread over all), then what they do, one thing after the
/// other.
pub fn queues(bytes: &[u8]) {
    bounded(ALLOCATED_MAX + 2 * bytes.len(), || Driver::new(bytes).run());
}

struct Driver<'a> {
    input: Input<'a>,
    memory: Memory,
    bus: Bus<Memory>,
    features: u64,
    /// Chains made available so far in each queue.
    available: [u16; QUEUES.len()],
    now_ns: u64,
}

impl<'a> Driver<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut input = Input(bytes);
        let features = u64::from_le_bytes([input.byte(); 8]);
        let (mut bus, memory) = (bus(), memory());
        (0..4).for_each(|device| start(&mut bus, &memory, device, features));
        Self { input, memory, bus, features, available: [0; QUEUES.len()], now_ns: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            self.step();
        }
        self.service();
        self.move_away();
    }

    fn step(&mut self) {
        let choice = self.input.byte();
        let queue = usize::from(choice >> 4) % QUEUES.len();
        match choice & 15 {
            0..4 => self.descriptor(queue),
            4..7 => self.offer(queue),
            7 | 8 => self.scribble(),
            9 | 10 => self.service(),
            11 => self.register(queue),
            12 => self.count(queue),
            13 => {
                let (device, number) = QUEUES[queue];
                self.bus.notify(device, number);
            }
            14 => self.restart(queue),
            _ => self.move_away(),
        }
    }

    /// An address: mostly of a buffer, sometimes of rings, at the end of memory, or any.
    fn address(&mut self) -> u64 {
        let (kind, offset) = (self.input.byte(), u64::from(self.input.u16()));
        match kind % 8 {
            0..5 => BUFFERS + offset,
            5 => RINGS + 4 * offset,
            6 => MEMORY_END - 64 + offset % 128,
            _ => self.input.u64(),
        }
    }

    fn descriptor(&mut self, queue: usize) {
        let index = u64::from(self.input.byte()) % (2 * u64::from(ENTRIES));
        let (address, kind) = (self.address(), self.input.byte());
        let length = match kind >> 4 {
            0..12 => u32::from(self.input.u16() % 2048),
            12..15 => 512 * u32::from(kind >> 4 & 3),
            _ => self.input.u64() as u32,
        };
        let (flags, next) = (u16::from(kind & 7), u16::from(self.input.byte() % 18));
        let at = rings(queue)[0] + 16 * index;
        self.put(at, &address.to_le_bytes());
        self.put(at + 8, &length.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.to_le_bytes());
    }

    fn offer(&mut self, queue: usize) {
        let head = u16::from(self.input.byte() % 18);
        let ring = rings(queue)[1];
        let slot = u64::from(self.available[queue] % ENTRIES);
        self.put(ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.put(ring + 2, &self.available[queue].to_le_bytes());
    }

    /// The index of the available ring jumps.
    fn count(&mut self, queue: usize) {
        self.available[queue] = self.input.u16();
        self.put(rings(queue)[1] + 2, &self.available[queue].to_le_bytes());
    }

    fn scribble(&mut self) {
        let (at, length) = (self.address(), usize::from(self.input.byte() % 32));
        let bytes = self.input.bytes(length);
        self.put(at, bytes);
    }

    fn register(&mut self, queue: usize) {
        let (offset, width, value) = (self.input.u16(), self.input.byte(), self.input.u64());
        let (device, width) = (QUEUES[queue].0, usize::from(width % 9));
        self.bus.write(device, offset % 0x200, width, value as u32);
        let _ = self.bus.read(device, offset % 0x200, width);
    }

    fn service(&mut self) {
        self.now_ns += 50_000;
        let service = self.bus.service(&self.memory, self.now_ns);
        let all_broken = (0..4).all(|device| is_broken(&self.bus, device));
        assert!(!(service.more && all_broken), "broken devices have nothing to do");
    }

    fn restart(&mut self, queue: usize) {
        let device = QUEUES[queue].0;
        start(&mut self.bus, &self.memory, device, self.features);
        for (index, _) in QUEUES.iter().enumerate().filter(|(_, queue)| queue.0 == device) {
            self.available[index] = 0;
        }
    }

    /// What a driver has brought about can be moved, whatever it is.
    fn move_away(&mut self) {
        let state = self.bus.save(&self.memory).expect("nothing is under way");
        let mut next = bus();
        next.restore(&state, &self.memory).expect("what was saved is restored");
        self.bus = next;
    }

    /// Writes to the guest's memory; where none is, nothing.
    fn put(&self, at: u64, bytes: &[u8]) {
        let _ = self.memory.write_slice(bytes, GuestAddress(at));
    }
}

/// Drivers that do what they should, one for each queue.
#[must_use]
pub fn queues_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for queue in 0..QUEUES.len() as u8 {
        let step = |kind: u8| queue << 4 | kind;
        let mut bytes = vec![0xff];
        // A header or a request of 16 bytes, a buffer, and a byte of room.
        for (index, flags, length) in [(0, 1, 16_u16), (1, 3, 512), (2, 2, 1)] {
            bytes.extend([step(0), index, 0, 0, index * 8, flags]);
            bytes.extend(length.to_le_bytes());
            bytes.push(index + 1);
        }
        // One descriptor alone.
        bytes.extend([step(0), 4, 0, 0, 0x40, if matches!(queue, 0 | 3 | 5) { 2 } else { 0 }]);
        bytes.extend(100_u16.to_le_bytes());
        bytes.push(0);
        bytes.extend([step(4), 4, step(9), step(4), 0, step(9), step(15), step(4), 4, step(9)]);
        seeds.push(bytes);
    }
    seeds
}
