//! Front ends that lie, break off or take away what they gave: the next one is served all the same.

use crate::Case;
use crate::daemon::{Daemon, file, wait_until};
use crate::driver::{Driver, Listens, MEMORY, SIZE};
use denali_abi::virtio::{BLOCK_REQUEST_IN, BLOCK_STATUS_OK};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use tempfile::TempDir;
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserInflight;

pub fn cases() -> Vec<Case> {
    vec![
        ("memory_that_is_taken_away", None, memory_gone),
        ("memory_larger_than_its_file", None, memory_short),
        ("rings_that_cannot_be", None, impossible_rings),
        ("chains_that_loop_or_leave_memory", None, malformed_chains),
        ("an_available_index_that_runs_away", None, runaway_index),
        ("an_account_too_small_or_of_nonsense", None, bad_account),
        ("messages_that_are_none", None, noise),
        ("messages_of_all_kinds_in_any_order", None, disorder),
        ("an_eventfd_that_blocks", None, blocking_call),
    ]
}

/// A back end with a disk.
struct Target {
    daemon: Daemon,
    _folder: TempDir,
}

impl Target {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "disk", 1 << 20);
        Self { daemon: Daemon::disk(&path, &[]), _folder: folder }
    }

    /// An honest front end is served.
    #[track_caller]
    fn serves(&self) {
        let mut driver = Driver::new();
        let _connection = driver.attach(&self.daemon);
        driver.request(0, BLOCK_REQUEST_IN, 0, 512);
        driver.ring_bell();
        driver.wait(1);
        assert_eq!(driver.status(0), BLOCK_STATUS_OK);
        assert!(!self.daemon.messages().contains("panicked"), "{}", self.daemon.messages());
    }
}

fn memory_gone() {
    let target = Target::new();
    let mut driver = Driver::new();
    let connection = driver.attach(&target.daemon);
    let server = target.daemon.server();
    driver.request(0, BLOCK_REQUEST_IN, 0, 512);
    driver.file.set_len(0).unwrap();
    driver.ring_bell();
    wait_until("the process has ended", || !target.daemon.servers().contains(&server));
    wait_until("it is told", || target.daemon.messages().contains("no longer there"));
    drop(connection);
    target.serves();
}

fn memory_short() {
    let target = Target::new();
    let driver = Driver::new();
    let connection = driver.connect(&target.daemon, None);
    driver.file.set_len(MEMORY as u64 - 4096).unwrap();
    assert!(connection.frontend.set_mem_table(&[driver.region()]).is_err());
    let mut twice = [driver.region(), driver.region()];
    twice[1].guest_phys_addr += 4096;
    driver.file.set_len(MEMORY as u64).unwrap();
    let connection = driver.connect(&target.daemon, None);
    assert!(connection.frontend.set_mem_table(&twice).is_err());
    target.serves();
}

fn impossible_rings() {
    let target = Target::new();
    let driver = Driver::new();
    for size in [0, 3, 2048, u16::MAX] {
        let mut connection = driver.connect(&target.daemon, None);
        let said = connection.frontend.set_vring_num(0, size);
        let mut ring = driver.ring();
        ring.queue_max_size = u16::MAX;
        ring.queue_size = size;
        if said.is_ok() && connection.frontend.set_vring_addr(0, &ring).is_ok() {
            let kick = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
            // Either of these is refused.
            let started = connection.frontend.set_vring_kick(0, &kick);
            assert!(started.and_then(|()| connection.frontend.set_vring_enable(0, true)).is_err());
        }
    }
    let ends = [driver.memory.as_ptr() as u64 + MEMORY as u64, 0, u64::MAX];
    for end in ends {
        let connection = driver.connect(&target.daemon, None);
        connection.frontend.set_vring_num(0, SIZE).unwrap();
        let mut ring = driver.ring();
        ring.desc_table_addr = end;
        assert!(connection.frontend.set_vring_addr(0, &ring).is_err(), "{end:x}");
    }
    // The last page has no room for a table.
    let mut connection = driver.connect(&target.daemon, None);
    connection.frontend.set_vring_num(0, SIZE).unwrap();
    let mut ring = driver.ring();
    ring.desc_table_addr = driver.memory.as_ptr() as u64 + MEMORY as u64 - 16;
    connection.frontend.set_vring_addr(0, &ring).unwrap();
    let kick = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
    connection.frontend.set_vring_kick(0, &kick).unwrap();
    assert!(connection.frontend.set_vring_enable(0, true).is_err());
    target.serves();
}

/// Chains that a device must not follow: (offset, length, flags, next) of descriptor 0.
fn malformed_chains() {
    const NEXT: u16 = 1;
    const INDIRECT: u16 = 4;
    let target = Target::new();
    let broken = [
        (0x4000, 16, NEXT, 0),
        (0x4000, 16, NEXT, SIZE),
        (MEMORY, 16, 0, 0),
        (MEMORY - 8, 16, 0, 0),
        (0x4000, u32::MAX, 0, 0),
        (0x4000, 15, INDIRECT, 0),
        (MEMORY - 8, 16, INDIRECT, 0),
    ];
    for (offset, length, flags, next) in broken {
        let mut driver = Driver::new();
        let mut connection = driver.attach(&target.daemon);
        driver.descriptor(0, offset, length, flags, next);
        driver.publish(0);
        driver.ring_bell();
        wait_until("the ring is reported", || driver.error.read().is_ok());
        assert_eq!(driver.used_index(), 0);
        // The same front end may start anew.
        let base = connection.frontend.get_vring_base(0).unwrap();
        assert!(base <= 1, "{base}");
        driver.start(&mut connection, 1);
        driver.request(0, BLOCK_REQUEST_IN, 0, 512);
        driver.ring_bell();
        driver.wait(1);
        assert_eq!(driver.status(0), BLOCK_STATUS_OK);
    }
    target.serves();
}

fn runaway_index() {
    let target = Target::new();
    for index in [SIZE + 1, 0x7fff, u16::MAX] {
        let driver = Driver::new();
        let _connection = driver.attach(&target.daemon);
        driver.set_available(index);
        driver.ring_bell();
        wait_until("the ring is reported", || driver.error.read().is_ok());
        assert_eq!(driver.used_index(), 0);
    }
    target.serves();
}

fn bad_account() {
    let target = Target::new();
    let driver = Driver::new();
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    for (size, offset, rings, entries) in
        [(64, 0, 1, SIZE), (1 << 20, 1 << 40, 1, SIZE), (4096, u64::MAX, 1, 8), (4096, 0, 900, 8)]
    {
        let mut connection = driver.connect(&target.daemon, None);
        let described = VhostUserInflight::new(size, offset, rings, entries);
        let said = connection.frontend.set_inflight_fd(&described, file.as_raw_fd());
        assert!(said.is_err(), "{size} {offset} {rings} {entries}");
    }
    // Every byte of it set: all descriptors are said to be owed, and none of them is a request.
    let mut account = None;
    drop(driver.connect(&target.daemon, Some(&mut account)));
    let (described, file) = account.as_ref().unwrap();
    fill(file, described.mmap_size, SIZE);
    let mut connection = driver.connect(&target.daemon, Some(&mut account));
    driver.start(&mut connection, 0);
    driver.ring_bell();
    wait_until("the ring is reported or done", || {
        driver.error.read().is_ok() || driver.used_index() == SIZE
    });
    drop(connection);
    target.serves();
}

fn fill(file: &File, size: u64, entries: u16) {
    use std::os::unix::fs::FileExt;
    file.write_all_at(&vec![0xff; size as usize], 0).unwrap();
    file.write_all_at(&1u16.to_le_bytes(), 8).unwrap();
    file.write_all_at(&entries.to_le_bytes(), 10).unwrap();
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn noise() {
    let target = Target::new();
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for length in [0, 1, 11, 12, 13, 20, 100, 5000] {
        let mut stream = target.daemon.connect();
        // It may have been refused and closed before the last byte.
        let _ = stream.write_all(&numbers.bytes(length));
    }
    target.serves();
}

/// One message: its header is right, so that what follows is looked at.
fn message(stream: &mut UnixStream, request: u32, body: &[u8], file: Option<&File>) -> bool {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let mut bytes = Vec::new();
    for word in [request, 1, body.len() as u32] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(body);
    let descriptors = file.map(|file| [file.as_raw_fd()]);
    let control: Vec<_> =
        descriptors.iter().map(|one| ControlMessage::ScmRights(one.as_slice())).collect();
    let parts = [std::io::IoSlice::new(&bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(stream.as_raw_fd(), &parts, &control, flags, None).is_ok()
}

fn disorder() {
    let target = Target::new();
    let mut numbers = Numbers(0x0dd0_5eed_0dd0_5eed);
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    for _ in 0..300 {
        let mut stream = target.daemon.connect();
        for _ in 0..20 {
            let request = (numbers.next() % 45) as u32;
            let length = [0, 8, 8, 8, 24, 40, 40, 48][(numbers.next() % 8) as usize];
            let mut body = numbers.bytes(length);
            // Small numbers come further than large ones.
            for chunk in body.chunks_mut(4) {
                if !numbers.next().is_multiple_of(4) {
                    chunk.fill(0);
                    chunk[0] = (numbers.next() % 3) as u8;
                }
            }
            let with = numbers.next().is_multiple_of(3);
            if !message(&mut stream, request, &body, with.then_some(&file)) {
                break;
            }
        }
    }
    target.serves();
}

/// A pipe that nobody reads, in place of an eventfd, stops only the process that writes to it.
fn blocking_call() {
    let target = Target::new();
    let mut driver = Driver::new();
    let connection = driver.attach(&target.daemon);
    let (reader, mut writer) = std::io::pipe().unwrap();
    fill_pipe(&mut writer);
    let number = writer.as_raw_fd();
    // SAFETY: the number is borrowed for this one call, and forgotten.
    let call = std::mem::ManuallyDrop::new(unsafe {
        <vmm_sys_util::eventfd::EventFd as std::os::fd::FromRawFd>::from_raw_fd(number)
    });
    let server = target.daemon.server();
    // The reply never comes, so it is not waited for.
    connection.frontend.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::empty());
    let _ = connection.frontend.set_vring_call(0, &call);
    driver.request(0, BLOCK_REQUEST_IN, 0, 512);
    driver.ring_bell();
    drop(connection);
    wait_until("the process has ended", || !target.daemon.servers().contains(&server));
    target.serves();
    drop((reader, writer));
}

fn fill_pipe(writer: &mut std::io::PipeWriter) {
    let number = writer.as_raw_fd();
    // SAFETY: plain numbers.
    let set = |flags: libc::c_int| unsafe { libc::fcntl(number, libc::F_SETFL, flags) };
    set(libc::O_NONBLOCK);
    while writer.write(&[0; 4096]).is_ok() {}
    set(0);
}
