//! Disks on files of the host: what guests write is there afterwards, and only where it may be.

use crate::backend::Backend;
use crate::guest::{Run, wait_until};
use crate::registry::{Case, Suite};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

pub fn suite() -> Suite {
    Suite {
        name: "block",
        cases: vec![
            Case::each("a_disk_is_what_its_file_is", info),
            Case::each("what_one_guest_wrote_the_next_one_reads", lives),
            Case::each("what_is_flushed_survives_a_killed_monitor", killed),
            Case::each("ranges_are_zeroed_and_discarded_and_no_more", ranges),
            Case::each("what_is_outside_is_refused", outside),
            Case::each("a_read_only_disk_is_shared_and_stays_as_it_is", shared),
            Case::each("a_disk_that_is_written_is_one_guests_alone", alone),
            Case::each("requests_that_nobody_waits_for_harm_nobody", abandoned),
            Case::each("many_requests_share_an_exit", batched),
            Case::each("limits_hold", limited),
            Case::each("a_guest_has_several_disks", several),
        ],
    }
}

const SECTOR: usize = 512;
/// Sectors of a test's disk: an odd number.
const SECTORS: usize = 20_001;

/// A disk's file, removed when dropped.
struct DiskFile {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl DiskFile {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.img");
        let file = File::create(&path).expect("a file");
        file.set_len((SECTORS * SECTOR) as u64).expect("room for it");
        Self { path, _folder: folder }
    }

    /// A run of the guest that exercises disks, on this one.
    fn run(&self, backend: Backend, arguments: &str, more: &str) -> Run {
        on_disks(backend, arguments, &[self], more)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).expect("the file can be read")
    }
}

/// A run of the guest that exercises disks; `more` are further fields of each device.
fn on_disks(backend: Backend, arguments: &str, disks: &[&DiskFile], more: &str) -> Run {
    let device = |disk: &&DiskFile| {
        let (io, more) = match more.strip_prefix("io ") {
            Some(io) => (io, ""),
            None => ("auto", more),
        };
        let path = &disk.path;
        format!(r#"{{{more}"backend":{{"file":{{"path":{path:?},"io":"{io}"}}}}}}"#)
    };
    let devices: Vec<String> = disks.iter().map(device).collect();
    Run::new(backend, denali_images::DISK_PATH)
        .set(format!("block=[{}]", devices.join(",")))
        .option("--arg")
        .option(arguments)
}

const READ_ONLY: &str = r#""read_only":true,"#;

/// The pattern of a seed, as the guest writes it.
fn pattern(seed: u64, sectors: usize) -> Vec<u8> {
    let words = 0..(sectors * SECTOR / 8) as u64;
    words
        .flat_map(|number| {
            number.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
        })
        .collect()
}

/// A number that the guest printed as `name=number`.
#[track_caller]
fn printed(output: &str, name: &str) -> u64 {
    let value = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {output}"))
}

fn info(backend: Backend) {
    let disk = DiskFile::new();
    let output = disk.run(backend, "info", r#""name":"data","#).expect(0);
    assert_eq!(printed(&output, "sectors"), SECTORS as u64);
    assert!(output.contains("read_only=false\nid=data\n"), "{output}");
}

fn lives(backend: Backend) {
    for io in ["io auto", "io sync"] {
        let disk = DiskFile::new();
        disk.run(backend, "write 7", io).expect(0);
        assert!(disk.bytes() == pattern(7, SECTORS), "the file holds what the guest wrote");
        disk.run(backend, "verify 7", io).expect(0);
        disk.run(backend, "verify 8", io).expect(1);
        // A part of it, changed by another guest.
        disk.run(backend, "write 9 1000 333", io).expect(0);
        let (bytes, new) = (disk.bytes(), pattern(9, SECTORS));
        let part = 1000 * SECTOR..1333 * SECTOR;
        assert!(bytes[part.clone()] == new[part.clone()]);
        let old = pattern(7, SECTORS);
        assert!(bytes[..part.start] == old[..part.start] && bytes[part.end..] == old[part.end..]);
    }
}

/// The monitor keeps nothing to itself: what a guest was told is written is the host's.
fn killed(backend: Backend) {
    let disk = DiskFile::new();
    disk.run(backend, "write 3", "").expect(0);
    let mut guest = disk.run(backend, "random-write 32 4096 1000", "").start();
    wait_until("the guest writes", || disk.bytes() != pattern(3, SECTORS));
    assert!(guest.is_running());
    guest.signal(libc::SIGKILL);
    assert_eq!(guest.finish().signal, Some(libc::SIGKILL));
    disk.run(backend, "write 4", "").expect(0);
    assert!(disk.bytes() == pattern(4, SECTORS));
}

fn ranges(backend: Backend) {
    for io in ["io auto", "io sync"] {
        let disk = DiskFile::new();
        disk.run(backend, "write 1", io).expect(0);
        disk.run(backend, "zero 100 9000", io).expect(0);
        disk.run(backend, "zeroed 100 9000", io).expect(0);
        disk.run(backend, "zeroed 99 1", io).expect(1);
        let mut expected = pattern(1, SECTORS);
        expected[100 * SECTOR..9100 * SECTOR].fill(0);
        assert!(disk.bytes() == expected);
        disk.run(backend, "discard 10000 5000", io).expect(0);
        let bytes = disk.bytes();
        assert_eq!(bytes.len(), SECTORS * SECTOR, "the disk is as large as before");
        let (before, after) = (10_000 * SECTOR, 15_000 * SECTOR);
        assert!(bytes[..before] == expected[..before] && bytes[after..] == expected[after..]);
    }
}

fn outside(backend: Backend) {
    let disk = DiskFile::new();
    disk.run(backend, "out-of-range", "").expect(0);
    assert_eq!(disk.bytes().len(), SECTORS * SECTOR);
}

fn shared(backend: Backend) {
    let disk = DiskFile::new();
    fs::write(&disk.path, pattern(5, SECTORS)).expect("the file can be written");
    let guests: Vec<_> = ["verify 5", "read-only", "random-read 8 4096 1", "verify 5"]
        .map(|arguments| disk.run(backend, arguments, READ_ONLY).start())
        .into();
    for guest in guests {
        let finished = guest.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
    }
    assert!(disk.bytes() == pattern(5, SECTORS));
}

/// Whether some process has locked the file so that nobody else may write it.
fn is_locked(disk: &DiskFile) -> bool {
    let file = File::open(&disk.path).expect("the file can be opened");
    // SAFETY: the descriptor is open; the lock goes with it.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) != 0 }
}

fn alone(backend: Backend) {
    let disk = DiskFile::new();
    let mut first = disk.run(backend, "random-read 1 4096 1000", "").start();
    wait_until("the first guest has its disk", || is_locked(&disk));
    for more in ["", READ_ONLY] {
        let finished = disk.run(backend, "info", more).finish();
        assert_eq!(finished.status, 124, "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains("block[0].backend.file.path"), "{finished:?}");
        assert!(finished.stderr.contains("in use"), "{finished:?}");
    }
    assert!(first.is_running());
    first.signal(libc::SIGKILL);
    first.finish();
    disk.run(backend, "info", "").expect(0);
}

fn abandoned(backend: Backend) {
    DiskFile::new().run(backend, "abandon", "").expect(0);
}

fn batched(backend: Backend) {
    let disk = DiskFile::new();
    let output = disk.run(backend, "random-read 32 4096 1", "io sync").expect(0);
    let (requests, exits) = (printed(&output, "requests"), printed(&output, "exits"));
    assert!(requests > 32 && exits * 4 < requests, "{output}");
    // The same from outside.
    let finished = disk.run(backend, "verify 0 0 1000", "").json().finish();
    let ended = finished.stdout.lines().last().unwrap_or_default();
    assert!(ended.contains("\"read_bytes\":512000"), "{finished:?}");
}

fn limited(backend: Backend) {
    let disk = DiskFile::new();
    let limit = r#""rate_limit":{"ops":{"size":10,"one_time_burst":20,"refill_time":1000}},"#;
    let output = disk.run(backend, "random-read 4 512 1", limit).expect(0);
    let (requests, ns) = (printed(&output, "requests"), printed(&output, "ns"));
    // Ten a second, and what may be had at once; the clocks of both sides may differ by a little.
    let most = 30 + ns / 99_000_000;
    assert!(requests <= most && requests >= 10, "{output}");
}

fn several(backend: Backend) {
    let disks = [DiskFile::new(), DiskFile::new()];
    fs::write(&disks[1].path, pattern(2, SECTORS)).expect("the file can be written");
    on_disks(backend, "write 1", &[&disks[0], &disks[1]], "").expect(0);
    assert!(disks[0].bytes() == pattern(1, SECTORS) && disks[1].bytes() == pattern(2, SECTORS));
}
