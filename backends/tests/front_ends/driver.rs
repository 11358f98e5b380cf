//! A front end with a driver for disks, on the `vhost` crate: a memory, a ring, requests.

use denali_abi::virtio::{
    BLOCK_FEATURE_FLUSH, BLOCK_FEATURE_RO, BLOCK_REQUEST_IN, BLOCK_REQUEST_OUT, FEATURE_EVENT_IDX,
    FEATURE_INDIRECT_DESC, FEATURE_VERSION_1,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd as Notifier};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering, fence};
use std::time::Duration;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserInflight, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

/// After this long without an answer, something has failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// The rest is agreed on by protocol features.
const FEATURE_PROTOCOL: u64 = 1 << 30;

/// Something that listens for front ends.
pub trait Listens {
    /// Connects to it.
    fn connect(&self) -> UnixStream;
}

/// Entries of the ring.
pub const SIZE: u16 = 128;
/// Bytes of the memory.
pub const MEMORY: usize = 8 << 20;
/// Where the memory begins in the guest's eyes.
const GUEST: u64 = 0x10_0000;
/// Most bytes of data of a request.
pub const DATA: usize = 64 << 10;

const DESCRIPTORS: usize = 0x1000;
const AVAILABLE: usize = 0x2000;
const USED: usize = 0x3000;
/// Headers, 16 bytes for each request, and status bytes.
const HEADERS: usize = 0x4000;
const STATUS: usize = 0x5000;
const DATA_START: usize = 0x10_0000;

const NEXT: u16 = 1;
const WRITABLE: u16 = 2;

/// What no device ever writes as a status.
pub const PENDING: u8 = 0xee;

/// Requests in flight, in memory that the front end keeps.
pub type Account = (VhostUserInflight, File);

/// A guest's memory and ring, which outlive connections.
pub struct Driver {
    pub file: File,
    pub memory: MmapRegion<()>,
    pub available: u16,
    used: u16,
    call: Notifier,
    pub kick: Notifier,
    pub error: Notifier,
}

/// A connection.
pub struct Connection {
    pub frontend: Frontend,
    pub features: u64,
}

impl Driver {
    pub fn new() -> Self {
        let file = memfd();
        file.set_len(MEMORY as u64).expect("memory");
        let place = FileOffset::new(file.try_clone().expect("a descriptor"), 0);
        let memory = MmapRegion::from_file(place, MEMORY).expect("memory");
        let notifier =
            || Notifier::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let (call, kick, error) = (notifier(), notifier(), notifier());
        Self { file, memory, available: 0, used: 0, call, kick, error }
    }

    /// Connects and agrees on features; an account of requests in flight is asked for if there is none.
    pub fn connect(
        &self,
        back_end: &impl Listens,
        account: Option<&mut Option<Account>>,
    ) -> Connection {
        let mut frontend = Frontend::from_stream(back_end.connect(), 1);
        frontend.set_owner().expect("owner");
        let offered = frontend.get_features().expect("features");
        let ring = FEATURE_VERSION_1 | FEATURE_EVENT_IDX | FEATURE_INDIRECT_DESC;
        assert_eq!(offered & ring, ring);
        let wanted = VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
        let protocol = frontend.get_protocol_features().expect("protocol features");
        frontend.set_protocol_features(wanted & protocol).expect("protocol features");
        // Without events the driver is told of everything.
        let known = FEATURE_VERSION_1 | FEATURE_PROTOCOL | BLOCK_FEATURE_RO | BLOCK_FEATURE_FLUSH;
        let features = offered & known;
        frontend.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(features).expect("features");
        if let Some(account) = account {
            let (described, file) = account.get_or_insert_with(|| {
                let wanted = VhostUserInflight::new(0, 0, 1, SIZE);
                frontend.get_inflight_fd(&wanted).expect("an account")
            });
            frontend.set_inflight_fd(described, file.as_raw_fd()).expect("an account");
        }
        frontend.set_mem_table(&[self.region()]).expect("memory");
        Connection { frontend, features }
    }

    pub fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: MEMORY as u64,
            userspace_addr: self.memory.as_ptr() as u64,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    /// Sets the ring going; `base` is where in the available ring the device begins.
    pub fn start(&self, connection: &mut Connection, base: u16) {
        let frontend = &mut connection.frontend;
        frontend.set_vring_num(0, SIZE).expect("size");
        frontend.set_vring_base(0, base).expect("base");
        frontend.set_vring_addr(0, &self.ring()).expect("addresses");
        frontend.set_vring_call(0, &eventfd(&self.call)).expect("call");
        frontend.set_vring_err(0, &eventfd(&self.error)).expect("err");
        frontend.set_vring_kick(0, &eventfd(&self.kick)).expect("kick");
        frontend.set_vring_enable(0, true).expect("enable");
    }

    pub fn ring(&self) -> VringConfigData {
        let start = self.memory.as_ptr() as u64;
        VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: start + DESCRIPTORS as u64,
            used_ring_addr: start + USED as u64,
            avail_ring_addr: start + AVAILABLE as u64,
            log_addr: None,
        }
    }

    /// Connects and sets the ring going where it stands.
    pub fn attach(&self, back_end: &impl Listens) -> Connection {
        let mut connection = self.connect(back_end, None);
        self.start(&mut connection, self.available);
        connection
    }

    pub fn store<T: vm_memory::ByteValued>(&self, at: usize, value: T) {
        self.memory.as_volatile_slice().write_obj(value, at).expect("inside the memory");
    }

    fn load<T: vm_memory::ByteValued>(&self, at: usize) -> T {
        self.memory.as_volatile_slice().read_obj(at).expect("inside the memory")
    }

    /// Writes a descriptor.
    pub fn descriptor(&self, index: u16, offset: usize, length: u32, flags: u16, next: u16) {
        let at = DESCRIPTORS + 16 * usize::from(index);
        self.store(at, GUEST + offset as u64);
        self.store(at + 8, length);
        self.store(at + 12, flags);
        self.store(at + 14, next);
    }

    /// Makes a request of chain `slot` (three descriptors) available, without telling anybody.
    pub fn request(&mut self, slot: u16, kind: u32, sector: u64, length: usize) {
        let head = 3 * slot;
        let header = HEADERS + 16 * usize::from(slot);
        self.store(header, kind);
        self.store(header + 4, 0u32);
        self.store(header + 8, sector);
        self.store(STATUS + usize::from(slot), PENDING);
        self.descriptor(head, header, 16, NEXT, head + 1);
        let direction = if kind == BLOCK_REQUEST_IN { WRITABLE } else { 0 };
        let (data, status) = (head + 1, head + 2);
        if length > 0 {
            let place = DATA_START + DATA * usize::from(slot);
            self.descriptor(data, place, length as u32, NEXT | direction, status);
        } else {
            self.descriptor(head, header, 16, NEXT, status);
        }
        self.descriptor(status, STATUS + usize::from(slot), 1, WRITABLE, 0);
        self.publish(head);
    }

    /// Puts a chain into the available ring.
    pub fn publish(&mut self, head: u16) {
        self.store(AVAILABLE + 4 + 2 * usize::from(self.available % SIZE), head);
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
    }

    pub fn set_available(&self, index: u16) {
        let slice = self.memory.as_volatile_slice();
        slice.store(index, AVAILABLE + 2, Ordering::Release).expect("inside the memory");
    }

    /// A write of bytes that all are `value`.
    pub fn write(&mut self, slot: u16, sector: u64, value: u8, length: usize) {
        self.fill(slot, value, length);
        self.request(slot, BLOCK_REQUEST_OUT, sector, length);
    }

    pub fn fill(&self, slot: u16, value: u8, length: usize) {
        let place = DATA_START + DATA * usize::from(slot);
        let bytes = vec![value; length];
        self.memory.as_volatile_slice().write_slice(&bytes, place).expect("inside the memory");
    }

    pub fn data(&self, slot: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let place = DATA_START + DATA * usize::from(slot);
        self.memory.as_volatile_slice().read_slice(&mut bytes, place).expect("inside the memory");
        bytes
    }

    pub fn status(&self, slot: u16) -> u8 {
        self.load(STATUS + usize::from(slot))
    }

    /// Tells the device that there are requests.
    pub fn ring_bell(&self) {
        self.kick.write(1).expect("an eventfd");
    }

    /// Returns so many requests as a device would, and takes note of them.
    pub fn skip_used(&mut self, count: u16) {
        let slice = self.memory.as_volatile_slice();
        slice.store(count, USED + 2, Ordering::Release).expect("inside the memory");
        self.used = count;
    }

    /// The used index of the ring.
    pub fn used_index(&self) -> u16 {
        fence(Ordering::SeqCst);
        let slice = self.memory.as_volatile_slice();
        let index = slice.get_atomic_ref::<AtomicU16>(USED + 2).expect("inside the memory");
        index.load(Ordering::Acquire)
    }

    /// Waits, by the device's interrupts, until so many more requests were returned; their slots.
    #[track_caller]
    pub fn wait(&mut self, count: usize) -> Vec<u16> {
        let mut slots = Vec::new();
        while slots.len() < count {
            slots.extend(self.wait_some());
        }
        assert_eq!(slots.len(), count, "more requests were returned than made");
        slots
    }

    /// Waits, by the device's interrupts, until some requests were returned; their slots.
    #[track_caller]
    pub fn wait_some(&mut self) -> Vec<u16> {
        loop {
            let slots = self.returned();
            if !slots.is_empty() {
                return slots;
            }
            let mut sources = [PollFd::new(self.call.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(PATIENCE).expect("a time");
            let ready = poll(&mut sources, timeout).expect("poll");
            assert!(ready > 0, "nothing was returned");
            let _ = self.call.read();
        }
    }

    /// The slots of requests returned since this was last asked.
    pub fn returned(&mut self) -> Vec<u16> {
        let mut slots = Vec::new();
        while self.used != self.used_index() {
            let at = USED + 4 + 8 * usize::from(self.used % SIZE);
            let head: u32 = self.load(at);
            slots.push((head / 3) as u16);
            self.used = self.used.wrapping_add(1);
        }
        slots
    }
}

impl Connection {
    /// The configuration space.
    pub fn config(&mut self, size: u32) -> Vec<u8> {
        let flags = VhostUserConfigFlags::empty();
        let empty = vec![0; size as usize];
        self.frontend.get_config(0, size, flags, &empty).expect("a configuration").1
    }
}

fn memfd() -> File {
    // SAFETY: a constant name; the descriptor is nobody else's.
    unsafe {
        let number = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
        assert!(number >= 0, "a memfd");
        File::from_raw_fd(number)
    }
}

/// The same eventfd, as the `vhost` crate takes it.
fn eventfd(notifier: &Notifier) -> EventFd {
    let descriptor = notifier.as_fd().try_clone_to_owned().expect("a descriptor");
    // SAFETY: the descriptor was just made, and is given away here.
    unsafe { EventFd::from_raw_fd(descriptor.into_raw_fd()) }
}
