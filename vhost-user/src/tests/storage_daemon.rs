//! A front end with QEMU's storage daemon behind it: requests of a disk, and a daemon that is restarted.

use super::driver::{Guest, SIZE, START};
use crate::connect;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

/// How long anything may take before a test is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;

/// Where a request's parts are: header, status, and data, for each slot of the queue.
const HEADERS: u64 = START + 0x8000;
const STATUSES: u64 = START + 0x9000;
const DATA: u64 = START + 0x1_0000;
const DATA_SIZE: usize = 0x4000;

/// A running daemon, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(disk: &Path, socket: &Path) -> Daemon {
    let _ = std::fs::remove_file(socket);
    let child = Command::new("qemu-storage-daemon")
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=file,filename={}", disk.display()))
        .args(["--blockdev", "driver=raw,node-name=disk,file=file", "--export"])
        .arg(format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={}",
            socket.display()
        ))
        .stdin(Stdio::null())
        .spawn();
    Daemon(child.unwrap())
}

/// A disk file, the daemon's socket, and the folder that both are in.
struct Place {
    disk: PathBuf,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (disk, socket) = (folder.path().join("disk"), folder.path().join("socket"));
    std::fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    Place { disk, socket, _folder: folder }
}

/// The driver of a disk, with one request in each slot of the queue.
struct Disk {
    guest: Guest,
    seen: u16,
}

impl Disk {
    fn new(stream: OwnedFd) -> Self {
        let mut guest = Guest::new(stream);
        guest.start();
        Self { guest, seen: 0 }
    }

    /// Makes a request of `kind` at `sector` in `slot`; three descriptors in an indirect table.
    fn submit(&mut self, slot: u16, kind: u32, sector: u64) {
        let memory = &self.guest.memory;
        let slot64 = u64::from(slot);
        let (header, status) = (HEADERS + 16 * slot64, STATUSES + slot64);
        memory.write_obj(u64::from(kind), GuestAddress(header)).unwrap();
        memory.write_obj(sector, GuestAddress(header + 8)).unwrap();
        memory.write_obj(0xff_u8, GuestAddress(status)).unwrap();
        let write = if kind == IN { 2 } else { 0 };
        let parts = [
            (header, 16, 0_u16),
            (DATA + DATA_SIZE as u64 * slot64, DATA_SIZE as u32, write),
            (status, 1, 2),
        ];
        let parts: Vec<_> = match kind {
            FLUSH => vec![parts[0], parts[2]],
            _ => parts.to_vec(),
        };
        let table = START + 0xa000 + 0x100 * slot64;
        for (index, &(address, length, flags)) in parts.iter().enumerate() {
            let next = if index + 1 < parts.len() { 1 } else { 0 };
            let at = table + 16 * index as u64;
            write_descriptor(memory, at, (address, length, flags | next, index as u16 + 1));
        }
        let indirect = (table, 16 * parts.len() as u32, 4, 0);
        write_descriptor(memory, START + 16 * slot64, indirect);
        self.guest.make_available(slot);
        self.guest.service();
    }

    /// Waits until `count` requests have been returned since the last wait, all of them well.
    fn wait(&mut self, count: u16) {
        let until = Instant::now() + PATIENCE;
        let started = Instant::now();
        while self.guest.used_index().wrapping_sub(self.seen) < count {
            assert!(Instant::now() < until, "{:?}", self.guest.notices.borrow());
            self.guest.now = started.elapsed().as_nanos() as u64 + 1_000_000_000;
            self.guest.service();
            self.guest.sleep(Duration::from_millis(20));
        }
        self.seen = self.seen.wrapping_add(count);
        self.guest.service();
    }

    fn fill(&self, slot: u16, byte: u8) {
        let at = GuestAddress(DATA + DATA_SIZE as u64 * u64::from(slot));
        self.guest.memory.write_slice(&[byte; DATA_SIZE], at).unwrap();
    }

    fn data(&self, slot: u16) -> Vec<u8> {
        let mut data = vec![0; DATA_SIZE];
        let at = GuestAddress(DATA + DATA_SIZE as u64 * u64::from(slot));
        self.guest.memory.read_slice(&mut data, at).unwrap();
        data
    }

    fn status(&self, slot: u16) -> u8 {
        self.guest.memory.read_obj(GuestAddress(STATUSES + u64::from(slot))).unwrap()
    }
}

fn write_descriptor(
    memory: &super::driver::Memory,
    at: u64,
    (address, length, flags, next): (u64, u32, u16, u16),
) {
    memory.write_obj(address, GuestAddress(at)).unwrap();
    memory.write_obj(length, GuestAddress(at + 8)).unwrap();
    memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
    memory.write_obj(next, GuestAddress(at + 14)).unwrap();
}

#[test]
#[cfg_attr(no_storage_daemon, ignore = "no qemu-storage-daemon")]
fn what_is_written_and_flushed_is_in_the_file_and_read_back() {
    let place = place();
    let _daemon = daemon(&place.disk, &place.socket);
    let mut disk = Disk::new(connect(&place.socket, PATIENCE).unwrap());
    assert_eq!(disk.guest.bus.read(0, 0x100, 4), (8 << 20) / 512);
    for slot in 0..SIZE {
        disk.fill(slot, slot as u8 + 1);
        disk.submit(slot, OUT, 32 * u64::from(slot));
    }
    disk.wait(SIZE);
    disk.submit(0, FLUSH, 0);
    disk.wait(1);
    let bytes = std::fs::read(&place.disk).unwrap();
    for slot in 0..SIZE {
        let at = DATA_SIZE * usize::from(slot);
        assert!(bytes[at..at + DATA_SIZE].iter().all(|&byte| byte == slot as u8 + 1));
        assert_eq!(disk.status(slot), 0);
        disk.fill(slot, 0);
        disk.submit(slot, IN, 32 * u64::from(slot));
    }
    disk.wait(SIZE);
    for slot in 0..SIZE {
        assert!(disk.data(slot).iter().all(|&byte| byte == slot as u8 + 1));
    }
    // A driver that starts anew finds the disk as it was.
    disk.guest.start();
    disk.seen = 0;
    disk.fill(3, 0);
    disk.submit(3, IN, 32 * 3);
    disk.wait(1);
    assert_eq!((disk.status(3), disk.data(3)[0]), (0, 4));
    assert_eq!(disk.guest.counter("disconnects"), 0, "{:?}", disk.guest.notices.borrow());
}

#[test]
#[cfg_attr(no_storage_daemon, ignore = "no qemu-storage-daemon")]
fn a_daemon_that_is_restarted_goes_on_where_the_last_one_was() {
    let place = place();
    let mut running = daemon(&place.disk, &place.socket);
    let mut disk = Disk::new(connect(&place.socket, PATIENCE).unwrap());
    for round in 0..5_u8 {
        for slot in 0..SIZE {
            disk.fill(slot, 16 * round + slot as u8 + 1);
            disk.submit(slot, OUT, 32 * u64::from(slot));
        }
        // Killed with any number of requests done.
        drop(running);
        running = daemon(&place.disk, &place.socket);
        let next = connect(&place.socket, PATIENCE).unwrap();
        disk.guest.ready.streams.borrow_mut().push_back(next);
        disk.wait(SIZE);
        disk.submit(0, FLUSH, 0);
        disk.wait(1);
        let bytes = std::fs::read(&place.disk).unwrap();
        for slot in 0..SIZE {
            let at = DATA_SIZE * usize::from(slot);
            let wanted = 16 * round + slot as u8 + 1;
            assert!(bytes[at..at + DATA_SIZE].iter().all(|&byte| byte == wanted), "round {round}");
            assert_eq!(disk.status(slot), 0);
        }
    }
    assert_eq!(disk.guest.counter("reconnects"), 5, "{:?}", disk.guest.notices.borrow());
    assert_eq!(disk.guest.counter("requests"), disk.guest.counter("completed"));
}
