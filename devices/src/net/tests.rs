//! Tests of the network card, from the driver's side of its rings.

use super::*;
use crate::Bus;
use crate::rate::RateLimiter;
use crate::testing::*;
use denali_abi::virtio as abi;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress};

mod large;
mod properties;
mod singly;
mod state;

/// A back end that remembers what it was given and has what it is told to have.
#[derive(Clone, Default)]
struct Pipe(Rc<PipeState>);

#[derive(Default)]
struct PipeState {
    /// Header and frame of each.
    taken: RefCell<Vec<([u8; NET_HEADER], Vec<u8>)>>,
    agreed: Cell<Option<Wanted>>,
    full: Cell<bool>,
    wanted: Cell<bool>,
    waiting: RefCell<VecDeque<([u8; NET_HEADER], Vec<u8>)>>,
    processed: Cell<u64>,
    down: Cell<bool>,
    busy: Cell<Option<&'static str>>,
}

/// The header of frames that wait: what it says of checksums, the driver may believe.
const WAITING: [u8; NET_HEADER] = [NET_HEADER_DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl NetBackend for Pipe {
    fn offers(&self) -> Offers {
        Offers { checksums: true, segments: true }
    }
    fn agree(&mut self, wanted: Option<Wanted>) {
        self.0.agreed.set(wanted);
    }
    fn begin(&mut self, _now_ns: u64) {}
    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent {
        if self.0.full.get() {
            return Sent::Later;
        }
        let (mut header, mut frame) = ([0; NET_HEADER], Vec::new());
        memory::copy_out(packet.pieces(), 0, &mut header);
        packet.copy_frame(&mut frame);
        self.0.taken.borrow_mut().push((header, frame));
        Sent::Taken
    }
    fn process(&mut self) {
        self.0.processed.set(self.0.processed.get() + 1);
    }
    fn ready(&mut self) -> bool {
        !self.0.waiting.borrow().is_empty()
    }
    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize> {
        let (header, frame) = self.0.waiting.borrow_mut().pop_front()?;
        Some(room.put(&header, &frame))
    }
    fn want_frames(&mut self, wanted: bool) {
        self.0.wanted.set(wanted);
    }
    fn link_up(&self) -> bool {
        !self.0.down.get()
    }
    fn has_work(&self) -> bool {
        false
    }
    fn deadline(&self) -> Option<u64> {
        None
    }
    fn busy(&self) -> Option<&'static str> {
        self.0.busy.get()
    }
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

const MTU: u16 = 1500;
const BUFFERS: u64 = 0x10_0000;

struct Card {
    memory: Memory,
    bus: Bus<Memory>,
    line: CountedLine,
    pipe: Pipe,
    receive: DriverQueue,
    transmit: DriverQueue,
}

impl Card {
    fn new(features: u64, size: u16) -> Self {
        Self::with_rings(features, [Rings::standard(0, size), Rings::standard(1, size)])
    }

    fn with_rings(features: u64, rings: [Rings; 2]) -> Self {
        Self::made(features, rings, Default::default())
    }

    fn limited(features: u64, limiters: [RateLimiter; 2]) -> Self {
        Self::made(features, [Rings::standard(0, 16), Rings::standard(1, 16)], limiters)
    }

    fn made(features: u64, rings: [Rings; 2], limiters: [RateLimiter; 2]) -> Self {
        let [receive_limiter, transmit_limiter] = limiters;
        let memory = memory();
        let (line, pipe) = (CountedLine::default(), Pipe::default());
        let mut bus = Bus::new();
        let config = NetConfig { mac: [2, 0, 0, 0, 0, 1], mtu: MTU };
        let device = NetDevice::new(config, pipe.clone());
        let device = Box::new(device.limited(receive_limiter, transmit_limiter));
        assert_eq!(bus.attach(device, Box::new(line.clone())), Ok(0));
        assert_eq!(bus.negotiate(features), 11, "features are agreed");
        bus.set_up(0, &rings[0]);
        bus.set_up(1, &rings[1]);
        bus.start();
        let [receive, transmit] = rings.map(DriverQueue::new);
        Self { memory, bus, line, pipe, receive, transmit }
    }

    fn service(&mut self) -> crate::Service {
        self.bus.service(&self.memory, 1)
    }

    fn broken(&self) -> bool {
        self.bus.get(abi::STATUS) & abi::STATUS_NEEDS_RESET != 0
    }

    /// Offers `bytes` (with header) for transmission from one buffer.
    fn send(&mut self, head: u16, bytes: &[u8]) {
        let at = BUFFERS + u64::from(head) * 0x1000;
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        self.transmit.descriptor(&self.memory, head, (at, bytes.len() as u32, 0, 0));
        self.transmit.offer(&self.memory, head);
    }

    /// Offers a receive buffer of `length` bytes.
    fn want(&mut self, head: u16, length: u32) {
        let at = BUFFERS + 0x10_0000 + u64::from(head) * 0x1000;
        self.receive.descriptor(&self.memory, head, (at, length, 2, 0));
        self.receive.offer(&self.memory, head);
    }

    /// A frame for the guest arrives.
    fn arrive(&self, frame: &[u8]) {
        self.pipe.0.waiting.borrow_mut().push_back((WAITING, frame.to_vec()));
    }

    fn got(&self, head: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let at = GuestAddress(BUFFERS + 0x10_0000 + u64::from(head) * 0x1000);
        self.memory.read_slice(&mut bytes, at).unwrap();
        bytes
    }

    fn counter(&self, name: &str) -> u64 {
        self.bus.counters(0).iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn with_header(frame: &[u8]) -> Vec<u8> {
    [&[0; 12], frame].concat()
}

#[test]
fn a_frame_travels_each_way() {
    let mut card = Card::new(ALL_FEATURES, 16);
    card.send(3, &with_header(b"from the guest"));
    assert_eq!(card.service(), crate::Service { raised: true, more: false });
    assert_eq!(card.pipe.0.taken.borrow()[0], ([0; NET_HEADER], b"from the guest".to_vec()));
    assert_eq!(card.transmit.next_used(&card.memory), Some((3, 0)));

    card.arrive(b"for the guest");
    card.service();
    assert_eq!(card.receive.next_used(&card.memory), None, "no buffer yet: the frame waits");
    card.want(5, 2048);
    assert!(card.service().raised);
    assert_eq!(card.receive.next_used(&card.memory), Some((5, 12 + 13)));
    let got = card.got(5, 25);
    assert_eq!(got[..12], [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "DATA_VALID, one buffer");
    assert_eq!(&got[12..], b"for the guest");
    assert_eq!(card.line.0.get(), 2);
    assert_eq!(card.counter("transmit_frames"), 1);
    assert_eq!(card.counter("receive_bytes"), 13);
    assert_eq!(card.counter("receive_starved"), 1);
}

#[test]
fn nothing_to_do_raises_nothing() {
    let mut card = Card::new(ALL_FEATURES, 16);
    for _ in 0..3 {
        assert_eq!(card.service(), crate::Service::default());
    }
    assert_eq!(card.line.0.get(), 0);
    assert_eq!(card.pipe.0.processed.get(), 3, "the back end works all the same");
}

#[test]
fn a_frame_may_lie_in_pieces_and_in_an_indirect_table() {
    let mut card = Card::new(ALL_FEATURES, 16);
    let whole = with_header(b"in three pieces");
    card.memory.write_slice(&whole, GuestAddress(BUFFERS)).unwrap();
    let table = BUFFERS + 0x8000;
    for (index, (at, length, flags, next)) in
        [(0, 5, 1, 1), (5, 12, 1, 2), (17, 10, 0, 0)].into_iter().enumerate()
    {
        let descriptor = (BUFFERS + at, length, flags, next);
        card.transmit.descriptor(&card.memory, index as u16, descriptor);
        write_descriptor(&card.memory, table, index as u16, descriptor);
    }
    card.transmit.descriptor(&card.memory, 7, (table, 48, 4, 0));
    card.transmit.offer(&card.memory, 0);
    card.transmit.offer(&card.memory, 7);
    card.service();
    let taken = card.pipe.0.taken.borrow();
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|(_, frame)| frame == b"in three pieces"));
}

#[test]
fn interrupts_are_suppressed_as_the_driver_asks() {
    let mut card = Card::new(ALL_FEATURES & !abi::FEATURE_EVENT_IDX, 16);
    card.memory.write_obj(1_u16, GuestAddress(card.transmit.rings.available)).unwrap();
    card.send(0, &with_header(b"quiet"));
    assert!(!card.service().raised, "NO_INTERRUPT");
    card.memory.write_obj(0_u16, GuestAddress(card.transmit.rings.available)).unwrap();
    card.send(1, &with_header(b"loud"));
    assert!(card.service().raised);

    let mut card = Card::new(ALL_FEATURES, 16);
    let used_event = GuestAddress(card.transmit.rings.available + 4 + 2 * 16);
    card.memory.write_obj(2_u16, used_event).unwrap();
    for (head, raised) in [(0, false), (1, false), (2, true), (3, false)] {
        card.send(head, &with_header(b"x"));
        assert_eq!(card.service().raised, raised, "used event 2, frame {head}");
    }
}

#[test]
fn the_driver_notifies_of_receive_buffers_only_when_they_are_missed() {
    let mut card = Card::new(ALL_FEATURES & !abi::FEATURE_EVENT_IDX, 16);
    let no_notify = |card: &Card| -> u16 {
        card.memory.read_obj(GuestAddress(card.receive.rings.used)).unwrap()
    };
    card.want(0, 2048);
    card.arrive(&[1; 60]);
    card.arrive(&[2; 60]);
    card.service();
    assert_eq!(no_notify(&card), 0, "a frame waits for a buffer");
    card.want(1, 2048);
    card.service();
    assert_eq!(no_notify(&card), 1, "none waits");
    let transmit: u16 = card.memory.read_obj(GuestAddress(card.transmit.rings.used)).unwrap();
    assert_eq!(transmit, 0, "of frames it always does");
}

#[test]
fn a_link_that_goes_or_comes_changes_the_configuration() {
    let with_status = ALL_FEATURES | abi::NET_FEATURE_STATUS;
    for (features, told) in [(with_status, true), (ALL_FEATURES, false)] {
        let mut card = Card::new(features, 16);
        let link = |card: &Card| card.bus.read(0, abi::CONFIG + abi::NET_CONFIG_STATUS, 2);
        let quiet = crate::Service::default();
        assert_eq!((card.service(), link(&card)), (quiet, 1));
        let generation = card.bus.get(abi::CONFIG_GENERATION);
        card.pipe.0.down.set(true);
        assert_eq!((card.service().raised, link(&card)), (told, 0));
        assert_eq!(card.bus.get(abi::INTERRUPT_STATUS), if told { 2 } else { 0 });
        assert_eq!(card.bus.get(abi::CONFIG_GENERATION) != generation, told);
        card.bus.put(abi::INTERRUPT_ACK, 2);
        assert_eq!((card.service(), link(&card)), (quiet, 0), "said once");
        card.pipe.0.down.set(false);
        assert_eq!((card.service().raised, link(&card)), (told, 1));
        assert_eq!(card.line.0.get(), if told { 2 } else { 0 });
    }
}

#[test]
fn checksums_are_left_to_whom_it_was_agreed() {
    let partial = [1, 0, 0, 0, 0, 0, 14, 0, 2, 0, 0, 0];
    let mut frame = partial.to_vec();
    frame.extend([9; 40]);
    let mut card = Card::new(ALL_FEATURES, 16);
    card.send(0, &frame);
    frame[6] = 39;
    card.send(1, &frame);
    card.service();
    assert_eq!(card.pipe.0.taken.borrow().len(), 1, "a checksum outside the frame is an error");
    assert_eq!(card.pipe.0.taken.borrow()[0].0, partial, "passed on as it was");
    assert_eq!(card.counter("transmit_errors"), 1);

    let mut card = Card::new(abi::FEATURE_VERSION_1, 16);
    card.send(0, &[&partial[..], &[9; 40]].concat());
    assert_eq!(card.pipe.0.agreed.get(), Some(Wanted::default()));
    let mut tcp = vec![0; 12];
    tcp.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    tcp.extend([4, 210, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 1, 0, 0, 0, 0]);
    let (at, right) = checksum::transport_checksum(&tcp).unwrap();
    let pseudo_header = !checksum::complement(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 20]);
    tcp[at..at + 2].copy_from_slice(&pseudo_header.to_be_bytes());
    let left_over = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
    card.pipe.0.waiting.borrow_mut().push_back((left_over, tcp));
    card.want(0, 2048);
    card.service();
    assert!(card.pipe.0.taken.borrow().is_empty(), "it was not agreed on");
    let got = card.got(0, 66);
    assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "nothing is left over");
    assert_eq!(got[12 + at..][..2], right, "the card has completed it");
}

#[test]
fn wrong_frames_are_dropped_and_counted() {
    let mut card = Card::new(ALL_FEATURES, 16);
    card.send(0, &[0; 11]);
    card.send(1, &[0; 12]);
    card.send(2, &vec![0; 12 + 14 + usize::from(MTU) + 1]);
    let mut segmented = with_header(b"x");
    segmented[1] = 1;
    card.send(3, &segmented);
    card.send(4, &vec![0; 12 + 14 + usize::from(MTU)]);
    card.want(0, 20);
    card.arrive(&[1; 9]);
    card.arrive(&[2; 8]);
    card.service();
    assert!(!card.broken());
    assert_eq!(card.counter("transmit_errors"), 4);
    assert_eq!(card.pipe.0.taken.borrow().len(), 1);
    assert_eq!(card.counter("receive_errors"), 1);
    assert_eq!(card.receive.next_used(&card.memory), Some((0, 20)), "the next frame that fits");
}

#[test]
fn work_is_bounded_and_the_rest_reported() {
    let mut card = Card::new(ALL_FEATURES, 16);
    for head in 0..16 {
        card.want(head, 2048);
    }
    (0..300).for_each(|_| card.arrive(&[1; 60]));
    let service = card.service();
    assert!(!service.more, "out of buffers is not more to do");
    assert_eq!(card.receive.used_index(&card.memory), 16);

    let mut card = Card::new(ALL_FEATURES, 256);
    for head in 0..=255 {
        card.want(head, 2048);
    }
    (0..300).for_each(|_| card.arrive(&[1; 60]));
    assert!(card.service().more);
}

#[test]
fn a_broken_queue_is_left_alone_until_a_reset() {
    type Break = fn(&mut Card);
    let ways: [(&str, Break); 9] = [
        ("loop", |card| {
            card.transmit.descriptor(&card.memory, 0, (BUFFERS, 64, 1, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("direction", |card| {
            card.transmit.descriptor(&card.memory, 0, (BUFFERS, 64, 2, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("null page", |card| {
            card.transmit.descriptor(&card.memory, 0, (0xfff, 64, 0, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("end of memory", |card| {
            card.transmit.descriptor(&card.memory, 0, (MEMORY_SIZE as u64 - 63, 64, 0, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("wrapping address", |card| {
            card.transmit.descriptor(&card.memory, 0, (u64::MAX - 8, 64, 0, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("descriptor index", |card| card.transmit.offer(&card.memory, 16)),
        ("runaway available index", |card| {
            let index = GuestAddress(card.transmit.rings.available + 2);
            card.memory.write_obj(17_u16, index).unwrap();
        }),
        ("nested indirect table", |card| {
            write_descriptor(&card.memory, BUFFERS, 0, (BUFFERS, 16, 4, 0));
            card.transmit.descriptor(&card.memory, 0, (BUFFERS, 16, 4, 0));
            card.transmit.offer(&card.memory, 0);
        }),
        ("odd indirect table", |card| {
            card.transmit.descriptor(&card.memory, 0, (BUFFERS, 17, 4, 0));
            card.transmit.offer(&card.memory, 0);
        }),
    ];
    for (name, break_it) in ways {
        let mut card = Card::new(ALL_FEATURES, 16);
        break_it(&mut card);
        assert!(card.service().raised, "{name}");
        assert!(card.broken(), "{name}");
        assert_eq!(card.bus.get(abi::INTERRUPT_STATUS), 2, "{name}");
        assert_eq!(card.transmit.used_index(&card.memory), 0, "{name}");
        assert_eq!(card.service(), crate::Service::default(), "{name}: said once");
        card.bus.put(abi::STATUS, 15);
        assert!(card.broken(), "{name}: only a reset helps");
        assert_eq!(card.bus.negotiate(ALL_FEATURES), 11, "{name}");
    }
}

#[test]
fn rings_must_be_where_the_guest_may_write() {
    let good = Rings::standard(1, 16);
    for rings in [
        Rings { size: 0, ..good },
        Rings { size: 15, ..good },
        Rings { size: 512, ..good },
        Rings { descriptors: good.descriptors + 8, ..good },
        Rings { available: good.available + 1, ..good },
        Rings { used: good.used + 2, ..good },
        Rings { descriptors: 0xff0, ..good },
        Rings { available: 0, ..good },
        Rings { used: MEMORY_SIZE as u64 - 8, ..good },
        Rings { descriptors: u64::MAX - 0xf, ..good },
    ] {
        let mut card = Card::with_rings(ALL_FEATURES, [Rings::standard(0, 16), rings]);
        assert!(card.service().raised, "{rings:?}");
        assert!(card.broken(), "{rings:?}");
    }
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let mut card = Card::new(ALL_FEATURES, 16);
    assert_eq!(card.bus.negotiate(ALL_FEATURES | 1 << 34), 3);
    assert_eq!(card.bus.negotiate(ALL_FEATURES & !abi::FEATURE_VERSION_1), 3);
    card.bus.put(abi::STATUS, 15);
    assert_eq!(card.bus.get(abi::STATUS), 3, "no DRIVER_OK without FEATURES_OK");
    card.bus.put(abi::STATUS, 0);
    card.bus.put(abi::STATUS, 2);
    assert_eq!(card.bus.get(abi::STATUS), 0, "no DRIVER without ACKNOWLEDGE");
    assert_eq!(card.bus.negotiate(ALL_FEATURES), 11);
}

#[test]
fn the_register_file_reads_as_documented() {
    let mut card = Card::new(ALL_FEATURES, 16);
    assert_eq!(card.bus.get(abi::MAGIC_VALUE), abi::MAGIC);
    assert_eq!((card.bus.get(abi::VERSION), card.bus.get(abi::DEVICE_ID)), (2, 1));
    card.bus.put(abi::QUEUE_SEL, 1);
    assert_eq!((card.bus.get(abi::QUEUE_SIZE_MAX), card.bus.get(abi::QUEUE_READY)), (256, 1));
    card.bus.put(abi::QUEUE_SEL, 2);
    assert_eq!((card.bus.get(abi::QUEUE_SIZE_MAX), card.bus.get(abi::QUEUE_READY)), (0, 0));
    card.bus.put(abi::DEVICE_FEATURES_SEL, 1);
    assert_eq!(card.bus.get(abi::DEVICE_FEATURES), 1);
    let config = |offset, width| card.bus.read(0, abi::CONFIG + offset, width);
    assert_eq!((config(0, 4), config(4, 2), config(5, 1)), (0x0000_0002, 0x0100, 0x01));
    assert_eq!(config(abi::NET_CONFIG_MTU, 2), u32::from(MTU));
    assert_eq!((config(0xfe, 4), config(11, 4), config(0, 3)), (0, 5, 0));
    assert_eq!(card.bus.read(0, abi::MAGIC_VALUE, 2), 0, "registers are 32 bits wide");
    assert_eq!(card.bus.read(1, abi::MAGIC_VALUE, 4), 0, "no such device");
    assert!(!card.bus.write(61, abi::STATUS, 4, 1) && !card.bus.notify(61, 0));
    assert!(card.bus.notify(0, 1) && !card.bus.notify(0, 2));
}

#[test]
fn bus_numbers_devices_and_ends() {
    let mut card = Card::new(ALL_FEATURES, 16);
    for number in 1..=62 {
        let device = Box::new(NetDevice::new(NetConfig { mac: [2; 6], mtu: MTU }, Pipe::default()));
        let attached = card.bus.attach(device, Box::new(CountedLine::default()));
        assert_eq!(attached, if number < 62 { Ok(number) } else { Err(crate::BusFull) });
    }
}
