//! Measures what the network card costs: a service with nothing to do, and a frame each way.
//!
//! `cargo run --release -p denali-devices --example service`

use denali_abi::virtio as abi;
use denali_devices::net::{
    NET_HEADER, NetBackend, NetConfig, NetDevice, Offers, Packet, Room, Sent, Wanted,
};
use denali_devices::{Bus, Interrupt};
use std::time::Instant;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const FRAME: usize = 350;
const SIZE: u16 = 256;
const BATCH: u16 = 64;

/// Has as many frames as it was given.
#[derive(Default)]
struct Mirror {
    owed: u32,
    frame: Vec<u8>,
}

impl NetBackend for Mirror {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: false }
    }
    fn agree(&mut self, _: Option<Wanted>) {}
    fn begin(&mut self, _now_ns: u64) {}
    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        self.owed += 1;
        packet.copy_frame(&mut self.frame);
        Sent::Taken
    }
    fn process(&mut self) {}
    fn ready(&mut self) -> bool {
        self.owed > 0
    }
    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        self.owed -= 1;
        Some(room.put(&[0; NET_HEADER], &self.frame))
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

struct NoLine;

impl Interrupt for NoLine {
    fn raise(&self) {}
}

/// Starts the card with rings at 64 KiB, 32 KiB apart, and one buffer for each descriptor.
fn start(bus: &mut Bus<GuestMemoryMmap>, memory: &GuestMemoryMmap) {
    let mut put = |offset, value| bus.write(0, offset, 4, value);
    put(abi::STATUS, 3);
    put(abi::DRIVER_FEATURES, (abi::FEATURE_EVENT_IDX | abi::NET_FEATURE_GUEST_CSUM) as u32);
    put(abi::DRIVER_FEATURES_SEL, 1);
    put(abi::DRIVER_FEATURES, 1);
    put(abi::STATUS, 11);
    for queue in 0..2_u32 {
        let base = 0x1_0000 + queue * 0x8000;
        put(abi::QUEUE_SEL, queue);
        put(abi::QUEUE_SIZE, SIZE.into());
        put(abi::QUEUE_DESC_LOW, base);
        put(abi::QUEUE_DRIVER_LOW, base + 0x4000);
        put(abi::QUEUE_DEVICE_LOW, base + 0x6000);
        put(abi::QUEUE_READY, 1);
        for index in 0..u32::from(SIZE) {
            let buffer = u64::from(0x10_0000 + (queue << 20) + index * 2048);
            let length = if queue == 0 { 2048 } else { 12 + FRAME as u32 };
            let at = u64::from(base + 16 * index);
            memory.write_obj(buffer, GuestAddress(at)).expect("inside");
            memory.write_obj(length, GuestAddress(at + 8)).expect("inside");
            let flags = if queue == 0 { 2_u32 } else { 0 };
            memory.write_obj(flags, GuestAddress(at + 12)).expect("inside");
            let slot = GuestAddress(u64::from(base + 0x4004 + 2 * index));
            memory.write_obj(index as u16, slot).expect("inside");
        }
    }
    put(abi::STATUS, 15);
}

fn main() {
    let ranges = [(GuestAddress(0x1_0000), 4 << 20)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).expect("memory");
    let mut bus = Bus::new();
    let config = NetConfig { mac: [2, 0, 0, 0, 0, 1], mtu: 1500 };
    let device = Box::new(NetDevice::new(config, Mirror::default()));
    assert!(bus.attach(device, Box::new(NoLine)).is_ok());
    start(&mut bus, &memory);

    let times = 1_000_000_u32;
    let before = Instant::now();
    for _ in 0..times {
        bus.service(&memory, 1);
    }
    println!("nothing to do:      {:5.0} ns/service", ns(before) / f64::from(times));

    let rounds = 20_000_u32;
    let mut available = 0_u16;
    let before = Instant::now();
    for _ in 0..rounds {
        available = available.wrapping_add(BATCH);
        for queue in 0..2 {
            let index = GuestAddress(0x1_4002 + queue * 0x8000);
            memory.write_obj(available, index).expect("inside");
        }
        bus.service(&memory, 1);
    }
    let frames = f64::from(rounds) * f64::from(BATCH);
    println!("a frame each way:   {:5.0} ns, {FRAME} bytes", ns(before) / frames);
    let carried = bus.counters(0).into_iter().find(|(name, _)| *name == "receive_frames");
    assert_eq!(carried, Some(("receive_frames", frames as u64)));
}

fn ns(before: Instant) -> f64 {
    before.elapsed().as_nanos() as f64
}
