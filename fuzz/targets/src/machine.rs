//! A machine's devices, one of each kind, and the memory of a guest that drives them.

use crate::disk::Disk;
use denali_abi::virtio as abi;
use denali_devices::block::{BlockConfig, BlockDevice};
use denali_devices::console::{ConsoleBackend, ConsoleDevice};
use denali_devices::entropy::{EntropyDevice, EntropySource};
use denali_devices::net::{
    NET_HEADER, NetBackend, NetConfig, NetDevice, Offers, Packet, Room, Sent, Wanted,
};
use denali_devices::rate::{RateLimiter, TokenBucket};
use denali_devices::virtio::VirtioDevice;
use denali_devices::{Bus, Interrupt};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub(crate) type Memory = GuestMemoryMmap<()>;

/// End of the guest's memory; its first page is missing.
pub(crate) const MEMORY_END: u64 = 0x20_0000;
/// Where the rings of all queues are, each queue's in 32 KiB.
pub(crate) const RINGS: u64 = 0x1_0000;
/// Where buffers are.
pub(crate) const BUFFERS: u64 = 0x10_0000;
/// Entries of each queue.
pub(crate) const ENTRIES: u16 = 16;

/// Bytes of the disk.
const DISK: u64 = 64 << 10;
/// Frames that wait for the guest, at most.
const FRAMES_MAX: usize = 8;

/// All queues: the device's number, and the queue's in it.
pub(crate) const QUEUES: [(usize, u16); 6] = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0)];

pub(crate) fn memory() -> Memory {
    let start = GuestAddress(0x1000);
    let ranges = [(start, (MEMORY_END - start.0) as usize)];
    GuestMemoryMmap::from_ranges(&ranges).expect("the host has memory")
}

/// A line that leads nowhere.
struct Line;

impl Interrupt for Line {
    fn raise(&self) {}
}

/// The other end of a console and of an entropy source.
struct Void;

impl ConsoleBackend for Void {
    fn attach(&mut self, _driver: bool) {}
    fn write(&mut self, bytes: &[u8]) -> usize {
        bytes.len().min(100)
    }
    fn read(&mut self, room: &mut [u8]) -> usize {
        let length = room.len().min(10);
        room[..length].fill(b'x');
        length
    }
    fn want_input(&mut self, _wanted: bool) {}
    fn busy(&mut self) -> Option<&'static str> {
        None
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl EntropySource for Void {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        bytes.fill(7);
        true
    }
}

/// A wire that gives back what it takes.
#[derive(Default)]
struct Loop {
    frames: VecDeque<Vec<u8>>,
}

impl NetBackend for Loop {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: true }
    }
    fn agree(&mut self, _wanted: Option<Wanted>) {}
    fn begin(&mut self, _now_ns: u64) {}
    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        if self.frames.len() == FRAMES_MAX {
            return Sent::Later;
        }
        let mut frame = Vec::new();
        packet.copy_frame(&mut frame);
        self.frames.push_back(frame);
        Sent::Taken
    }
    fn process(&mut self) {}
    fn ready(&mut self) -> bool {
        !self.frames.is_empty()
    }
    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        let frame = self.frames.pop_front()?;
        let length = room.put(&[0; NET_HEADER], &frame);
        room.complete_checksum(&frame);
        Some(length)
    }
    fn has_work(&self) -> bool {
        false
    }
    fn deadline(&self) -> Option<u64> {
        None
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

fn limiter() -> RateLimiter {
    let bucket = |size| TokenBucket::new(size, 10, 1_000_000);
    RateLimiter::new(Some(bucket(100_000)), Some(bucket(1000)))
}

/// A bus with a network card, a disk, a console and an entropy source, in this order.
pub(crate) fn bus() -> Bus<Memory> {
    let card = NetDevice::new(NetConfig { mac: [2, 0, 0, 0, 0, 1], mtu: 1500 }, Loop::default());
    let disk = BlockDevice::new(BlockConfig::new("disk", false), Disk::new(DISK));
    let devices: [Box<dyn VirtioDevice<Memory>>; 4] = [
        Box::new(card.limited(limiter(), limiter())),
        Box::new(disk.limited(limiter())),
        Box::new(ConsoleDevice::new(Void)),
        Box::new(EntropyDevice::new(Void, limiter())),
    ];
    let mut bus = Bus::new();
    for device in devices {
        bus.attach(device, Box::new(Line)).expect("there is room for four");
    }
    bus
}

/// Where the descriptors, the available ring and the used ring of a queue are.
pub(crate) fn rings(queue: usize) -> [u64; 3] {
    let base = RINGS + 0x8000 * queue as u64;
    [base, base + 0x4000, base + 0x6000]
}

/// Sets a device up as drivers should, with those of the features it offers that are in `features`; its rings
/// begin anew.
pub(crate) fn start(bus: &mut Bus<Memory>, memory: &Memory, device: usize, features: u64) {
    let mut put = |offset: u16, value: u32| {
        bus.write(device, offset, 4, value);
    };
    put(abi::STATUS, 0);
    put(abi::STATUS, abi::STATUS_ACKNOWLEDGE);
    put(abi::STATUS, abi::STATUS_ACKNOWLEDGE | abi::STATUS_DRIVER);
    for half in 0..2 {
        bus.write(device, abi::DEVICE_FEATURES_SEL, 4, half);
        let offered = bus.read(device, abi::DEVICE_FEATURES, 4);
        bus.write(device, abi::DRIVER_FEATURES_SEL, 4, half);
        let wanted = (features | abi::FEATURE_VERSION_1) >> (32 * half);
        bus.write(device, abi::DRIVER_FEATURES, 4, offered & wanted as u32);
    }
    let agreed = abi::STATUS_ACKNOWLEDGE | abi::STATUS_DRIVER | abi::STATUS_FEATURES_OK;
    bus.write(device, abi::STATUS, 4, agreed);
    for (index, &(_, queue)) in QUEUES.iter().enumerate().filter(|(_, at)| at.0 == device) {
        let [descriptors, available, used] = rings(index);
        for ring in [available, used] {
            memory.write_obj(0_u32, GuestAddress(ring)).expect("rings are in memory");
        }
        let mut put = |offset: u16, value: u32| {
            bus.write(device, offset, 4, value);
        };
        put(abi::QUEUE_SEL, queue.into());
        put(abi::QUEUE_SIZE, ENTRIES.into());
        put(abi::QUEUE_DESC_LOW, descriptors as u32);
        put(abi::QUEUE_DRIVER_LOW, available as u32);
        put(abi::QUEUE_DEVICE_LOW, used as u32);
        put(abi::QUEUE_READY, 1);
    }
    bus.write(device, abi::STATUS, 4, agreed | abi::STATUS_DRIVER_OK);
}

/// Sets all devices up, with all features.
pub(crate) fn start_all(bus: &mut Bus<Memory>, memory: &Memory) {
    (0..4).for_each(|device| start(bus, memory, device, u64::MAX));
}

/// Whether a device has given up on its driver.
pub(crate) fn is_broken(bus: &Bus<Memory>, device: usize) -> bool {
    bus.read(device, abi::STATUS, 4) & abi::STATUS_NEEDS_RESET != 0
}
