//! What a vhost-user back end may say to the front end of a disk: when it is asked what it can do, and later.

use crate::input::Input;
use crate::memory::bounded;
use denali_abi::virtio as abi;
use denali_devices::{Bus, Interrupt};
use denali_vhost_user::{FrontEnd, MemoryRegion, NoReconnect, Parts, Profile};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

type Memory = GuestMemoryMmap<()>;

/// The guest's memory, and the entries of its queue and where its rings are.
const START: u64 = 0x10_0000;
const SIZE: usize = 64 << 10;
const ENTRIES: u16 = 8;
const RINGS: [u64; 3] = [START, START + 0x1000, START + 0x2000];

/// Most things that one input does.
const STEPS_MAX: usize = 32;
/// Bytes that the front end may allocate.
const ALLOCATED_MAX: usize = 256 << 10;

/// Replies of a good back end to what it is asked first: features, those of the protocol, queues, configuration.
const FIRST: [(u32, &[u8]); 4] = [
    (1, &FEATURES.to_le_bytes()),
    (15, &PROTOCOL.to_le_bytes()),
    (17, &[1, 0, 0, 0, 0, 0, 0, 0]),
    (24, &CONFIG),
];
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | 1 << 9;
/// Several queues, acknowledgements, configuration space.
const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 9;
/// A configuration space of 60 bytes with its header.
const CONFIG: [u8; 72] = {
    let mut config = [0; 72];
    config[4] = 60;
    config
};

/// The input: 0 if all of it is said from the start; otherwise a good back end, which says the rest later. Then
/// what is said, one thing after the other.
pub fn back_end(bytes: &[u8]) {
    bounded(ALLOCATED_MAX + 2 * bytes.len(), || {
        let mut input = Input(bytes);
        match input.byte() {
            0 => at_first(&mut input),
            _ => later(&mut input),
        }
    });
}

/// What a back end says before it closes the connection, in whatever pieces.
fn at_first(input: &mut Input<'_>) {
    let (far, near) = UnixStream::pair().expect("the host has descriptors");
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        say(&far, input);
    }
    far.shutdown(Shutdown::Write).expect("the socket is open");
    if let Some((_, mut bus, memory)) = disk(near) {
        start(&mut bus);
        for _ in 0..4 {
            bus.service(&memory, 1);
        }
    }
}

fn later(input: &mut Input<'_>) {
    let (far, near) = UnixStream::pair().expect("the host has descriptors");
    FIRST.iter().for_each(|(code, body)| reply(&far, *code, 5, body));
    let (_file, mut bus, memory) = disk(near).expect("a good back end is taken");
    start(&mut bus);
    let (mut available, mut used) = (0_u16, 0);
    for step in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 4 {
            // No more than there are entries: a device that breaks waits for its back end to stop.
            0 if available < ENTRIES => {
                available += 1;
                let _ = memory.write_obj(available, GuestAddress(RINGS[1] + 2));
            }
            1 => used = give_back(&far, input.u16(), used..available, &memory),
            _ => say(&far, input),
        }
        bus.service(&memory, step as u64 * 1000);
        assert_eq!(bus.read(0, abi::STATUS, 4) & abi::STATUS_FAILED, 0);
    }
    drop(far);
    for _ in 0..3 {
        bus.service(&memory, 1_000_000);
    }
}

/// Returns requests: some that were made, or any number, before which the back end hangs up; the index then.
fn give_back(far: &UnixStream, number: u16, made: Range<u16>, memory: &Memory) -> u16 {
    let index = match number {
        0..0x8000 => made.start + number % (made.end - made.start + 1),
        _ => {
            let _ = far.shutdown(Shutdown::Write);
            number
        }
    };
    let _ = memory.write_obj(index, GuestAddress(RINGS[2] + 2));
    index.min(made.end)
}

/// Says one thing: a reply with a code, flags and a body, or anything.
fn say(far: &UnixStream, input: &mut Input<'_>) {
    let (code, length) = (input.byte(), input.byte());
    let (flags, body) = match code {
        0..0x80 => (5, input.bytes(length.into())),
        _ => (u32::from(input.byte()), input.bytes(usize::from(length % 32))),
    };
    match code {
        0xf0.. => write(far, body),
        _ => reply(far, u32::from(code & 0x7f), flags, body),
    }
}

fn reply(far: &UnixStream, code: u32, flags: u32, body: &[u8]) {
    let header = [code, flags, body.len() as u32].map(u32::to_ne_bytes).concat();
    write(far, &[&header, body].concat());
}

/// A front end that has hung up hears nothing.
fn write(mut far: &UnixStream, bytes: &[u8]) {
    let _ = far.write_all(bytes);
}

/// A line that leads nowhere.
struct Line;

impl Interrupt for Line {
    fn raise(&self) {}
}

/// A bus with a disk in front of the back end, if that is taken, and the memory of its guest.
fn disk(near: UnixStream) -> Option<(File, Bus<Memory>, Memory)> {
    let file = memfd_create(c"ram", MFdFlags::MFD_CLOEXEC).expect("the host has memory");
    let file = File::from(file);
    file.set_len(SIZE as u64).expect("the host has memory");
    let copy = || file.try_clone().expect("the host has descriptors");
    let range = (GuestAddress(START), SIZE, Some(FileOffset::new(copy(), 0)));
    let memory = Memory::from_ranges_with_files([range]).expect("the host has memory");
    let host = memory.get_host_address(GuestAddress(START)).expect("it has an address");
    let region = MemoryRegion {
        guest_address: START,
        size: SIZE as u64,
        host_address: host as u64,
        file: copy().into(),
        offset: 0,
    };
    let front_end = FrontEnd::new(Parts {
        profile: Profile::Block,
        memory: vec![region],
        stream: near.into(),
        reconnect: Box::new(NoReconnect),
        notice: Box::new(|line| assert!(!line.contains('\n'), "{line:?}")),
    });
    let mut bus = Bus::new();
    bus.attach(Box::new(front_end.ok()?), Box::new(Line)).expect("there is room");
    Some((file, bus, memory))
}

/// Agrees to all that the disk offers, and sets its queue up.
fn start(bus: &mut Bus<Memory>) {
    for status in [0, 1, 3] {
        bus.write(0, abi::STATUS, 4, status);
    }
    for half in 0..2 {
        bus.write(0, abi::DEVICE_FEATURES_SEL, 4, half);
        let offered = bus.read(0, abi::DEVICE_FEATURES, 4);
        bus.write(0, abi::DRIVER_FEATURES_SEL, 4, half);
        bus.write(0, abi::DRIVER_FEATURES, 4, offered);
    }
    bus.write(0, abi::STATUS, 4, 11);
    for (register, value) in [
        (abi::QUEUE_SEL, 0),
        (abi::QUEUE_SIZE, ENTRIES.into()),
        (abi::QUEUE_DESC_LOW, RINGS[0] as u32),
        (abi::QUEUE_DRIVER_LOW, RINGS[1] as u32),
        (abi::QUEUE_DEVICE_LOW, RINGS[2] as u32),
        (abi::QUEUE_READY, 1),
    ] {
        bus.write(0, register, 4, value);
    }
    bus.write(0, abi::STATUS, 4, 15);
}

/// A good back end from the start, one that acknowledges what it is asked later, and stray bytes.
#[must_use]
pub fn back_end_seeds() -> Vec<Vec<u8>> {
    let said = |code: u32, body: &[u8]| [&[code as u8, body.len() as u8][..], body].concat();
    let first = FIRST.map(|(code, body)| said(code, body)).concat();
    let done = |code: u8| [&[2][..], &said(code.into(), &[0; 8])].concat();
    let acknowledged = [vec![1, 0], done(2), vec![0], done(5), vec![1, 1, 0], done(11)].concat();
    vec![[vec![0], first].concat(), acknowledged, vec![1, 2, 0xff, 3, 0, 1, 2, 3]]
}
