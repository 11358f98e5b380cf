//! A guest's driver for a disk behind a front end: registers, one queue, and the memory they are in.

use super::back_end::{BackEnd, CONFIG, MQ, REPLY_ACK};
use crate::{FrontEnd, MemoryRegion, Parts, Profile, Reconnect};
use denali_abi::virtio as abi;
use denali_devices::{Bus, Interrupt, Service};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

pub type Memory = GuestMemoryMmap<()>;

pub const START: u64 = 0x10_0000;
pub const SIZE: u16 = 8;
const AVAILABLE: u64 = START + 0x1000;
const USED: u64 = START + 0x2000;

/// Counts how often it is raised.
#[derive(Clone, Default)]
pub struct Line(pub Rc<Cell<u64>>);

impl Interrupt for Line {
    fn raise(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Connections that a test has ready.
#[derive(Clone, Default)]
pub struct Ready {
    pub streams: Rc<RefCell<VecDeque<OwnedFd>>>,
    pub asked: Rc<Cell<u32>>,
}

impl Reconnect for Ready {
    fn request(&mut self) {
        self.asked.set(self.asked.get() + 1);
    }
    fn try_take(&mut self) -> Option<io::Result<OwnedFd>> {
        Some(self.streams.borrow_mut().pop_front().ok_or(io::ErrorKind::ConnectionRefused.into()))
    }
    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }
}

pub struct Guest {
    pub memory: Memory,
    pub bus: Bus<Memory>,
    pub line: Line,
    pub ready: Ready,
    pub notices: Rc<RefCell<Vec<String>>>,
    pub poll: RawFd,
    pub now: u64,
    made: u16,
}

fn memory() -> (Memory, MemoryRegion) {
    let file: File = memfd_create("ram", MFdFlags::empty()).unwrap().into();
    file.set_len(1 << 20).unwrap();
    let range = (GuestAddress(START), 1 << 20, Some(FileOffset::new(file.try_clone().unwrap(), 0)));
    let memory = Memory::from_ranges_with_files([range]).unwrap();
    let host_address = memory.get_host_address(GuestAddress(START)).unwrap() as u64;
    let region = MemoryRegion {
        guest_address: START,
        size: 1 << 20,
        host_address,
        file: file.into(),
        offset: 0,
    };
    (memory, region)
}

/// A disk's parts over `stream`.
pub fn parts(stream: OwnedFd) -> Parts {
    Parts {
        profile: Profile::Block,
        memory: vec![memory().1],
        stream,
        reconnect: Box::new(Ready::default()),
        notice: Box::new(|_| {}),
    }
}

impl Guest {
    /// A guest with a disk in front of `stream`.
    pub fn new(stream: OwnedFd) -> Self {
        let (memory, region) = memory();
        let (line, ready) = (Line::default(), Ready::default());
        let notices: Rc<RefCell<Vec<String>>> = Rc::default();
        let told = Rc::clone(&notices);
        let front_end = FrontEnd::new(Parts {
            memory: vec![region],
            reconnect: Box::new(ready.clone()),
            notice: Box::new(move |notice| told.borrow_mut().push(notice.into())),
            ..parts(stream)
        });
        let front_end = front_end.unwrap();
        let poll = front_end.as_raw_fd();
        let mut bus = Bus::new();
        bus.attach(Box::new(front_end), Box::new(line.clone())).unwrap();
        Self { memory, bus, line, ready, notices, poll, now: 0, made: 0 }
    }

    /// A guest with a running disk, and its back end.
    pub fn running(protocol: u64) -> (Self, BackEnd) {
        let (mut back_end, stream) = BackEnd::new(protocol);
        back_end.introduce();
        let mut guest = Self::new(stream);
        guest.start();
        guest.service();
        back_end.process();
        (guest, back_end)
    }

    pub fn standard() -> (Self, BackEnd) {
        Self::running(MQ | CONFIG | REPLY_ACK)
    }

    /// A back end that is there when the next connection is asked for.
    pub fn next_back_end(&mut self, change: impl FnOnce(&mut BackEnd)) -> BackEnd {
        let (mut back_end, stream) = BackEnd::new(MQ | CONFIG | REPLY_ACK);
        change(&mut back_end);
        back_end.introduce();
        self.ready.streams.borrow_mut().push_back(stream);
        back_end
    }

    pub fn put(&mut self, offset: u16, value: u32) {
        self.bus.write(0, offset, 4, value);
    }

    pub fn offered(&mut self) -> u64 {
        self.put(abi::DEVICE_FEATURES_SEL, 0);
        let low = self.bus.read(0, abi::DEVICE_FEATURES, 4);
        self.put(abi::DEVICE_FEATURES_SEL, 1);
        u64::from(low) | u64::from(self.bus.read(0, abi::DEVICE_FEATURES, 4)) << 32
    }

    /// Resets the device, agrees to all it offers and sets up its queue.
    pub fn start(&mut self) {
        self.put(abi::STATUS, 0);
        self.memory.write_slice(&[0; 0x3000], GuestAddress(START)).unwrap();
        self.made = 0;
        let features = self.offered();
        self.put(abi::STATUS, 1);
        self.put(abi::STATUS, 3);
        for half in 0..2 {
            self.put(abi::DRIVER_FEATURES_SEL, half);
            self.put(abi::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        self.put(abi::STATUS, 11);
        self.put(abi::QUEUE_SEL, 0);
        self.put(abi::QUEUE_SIZE, SIZE.into());
        self.put(abi::QUEUE_DESC_LOW, START as u32);
        self.put(abi::QUEUE_DRIVER_LOW, AVAILABLE as u32);
        self.put(abi::QUEUE_DEVICE_LOW, USED as u32);
        self.put(abi::QUEUE_READY, 1);
        self.put(abi::STATUS, 15);
    }

    pub fn service(&mut self) -> Service {
        self.bus.service(&self.memory, self.now)
    }

    /// Services the device until all that was ready is taken.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            self.service();
        }
    }

    /// Goes to the device's deadline, and services it there.
    pub fn service_at_deadline(&mut self) {
        self.now = self.bus.deadline().expect("a deadline");
        self.service();
    }

    pub fn status(&self) -> u32 {
        self.bus.read(0, abi::STATUS, 4)
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.bus.counters(0).iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Makes `head` available.
    pub fn make_available(&mut self, head: u16) {
        let slot = AVAILABLE + 4 + 2 * u64::from(self.made % SIZE);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.made = self.made.wrapping_add(1);
        self.memory.write_obj(self.made, GuestAddress(AVAILABLE + 2)).unwrap();
    }

    /// Heads in the available ring from `from` on.
    pub fn available_from(&self, from: u16) -> Vec<u16> {
        let slot = |index: u16| AVAILABLE + 4 + 2 * u64::from(index % SIZE);
        (from..self.made).map(|i| self.memory.read_obj(GuestAddress(slot(i))).unwrap()).collect()
    }

    /// Does as a back end that returns `head`.
    pub fn give_back(&self, head: u16) {
        let index: u16 = self.memory.read_obj(GuestAddress(USED + 2)).unwrap();
        let slot = USED + 4 + 8 * u64::from(index % SIZE);
        self.memory.write_obj(u32::from(head), GuestAddress(slot)).unwrap();
        self.memory.write_obj(index.wrapping_add(1), GuestAddress(USED + 2)).unwrap();
    }

    /// How many requests were returned in all.
    pub fn used_index(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    /// Waits until the monitor would be woken for the device, or for `limit`.
    pub fn sleep(&self, limit: Duration) {
        let mut polled = libc::pollfd { fd: self.poll, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, valid during the call.
        unsafe { libc::poll(&raw mut polled, 1, limit.as_millis() as i32) };
    }

    /// Does as a back end that wants to be kicked when the available index passes `index`.
    pub fn want_kick_at(&self, index: u16) {
        let event = USED + 4 + 8 * u64::from(SIZE);
        self.memory.write_obj(index, GuestAddress(event)).unwrap();
    }

    /// Does as a back end without events that wants kicks or not.
    pub fn set_used_flags(&self, flags: u16) {
        self.memory.write_obj(flags, GuestAddress(USED)).unwrap();
    }

    /// Whether the monitor would be woken for the device.
    pub fn is_woken(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.poll, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, valid during the call.
        unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
    }
}
