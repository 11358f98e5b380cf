//! Disks: what is written is read again, in files alone and striped; one front end after the other.

use crate::Case;
use crate::daemon::{BLK, Daemon, file};
use crate::driver::{DATA, Driver, Listens, SIZE};
use denali_abi::virtio::{
    BLOCK_FEATURE_RO, BLOCK_REQUEST_FLUSH, BLOCK_REQUEST_IN, BLOCK_REQUEST_OUT, BLOCK_STATUS_IOERR,
    BLOCK_STATUS_OK,
};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        ("written_bytes_are_in_the_file", None, written),
        ("written_bytes_are_in_the_file_without_io_uring", None, written_by_plain_calls),
        ("stripes_alternate_between_files", None, stripes),
        ("many_requests_at_once", None, many),
        ("read_only_disks_refuse_writes", None, read_only),
        ("a_stopped_ring_has_finished_what_it_took", None, stopped),
        ("memory_is_exchanged_while_a_ring_runs", None, exchanged),
        ("one_front_end_after_the_other", None, in_turn),
        ("both_processes_are_sandboxed", None, sandboxed),
    ]
}

fn written() {
    write_and_read(&[]);
}

fn written_by_plain_calls() {
    write_and_read(&["--io=sync"]);
}

fn write_and_read(options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    let daemon = Daemon::disk(&path, options);
    let mut driver = Driver::new();
    let mut connection = driver.attach(&daemon);
    let config = connection.config(60);
    assert_eq!(config[..8], 2048u64.to_le_bytes());
    driver.write(0, 8, 0x5a, 4096);
    driver.ring_bell();
    assert_eq!(driver.wait(1), [0]);
    driver.request(1, BLOCK_REQUEST_FLUSH, 0, 0);
    driver.request(2, BLOCK_REQUEST_IN, 8, 4096);
    driver.ring_bell();
    driver.wait(2);
    for slot in 0..3 {
        assert_eq!(driver.status(slot), BLOCK_STATUS_OK, "{slot}: {}", daemon.messages());
    }
    assert_eq!(driver.data(2, 4096), [0x5a; 4096]);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[4096..8192].iter().all(|&byte| byte == 0x5a));
    assert!(bytes[..4096].iter().chain(&bytes[8192..]).all(|&byte| byte == 0));
}

fn stripes() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..3).map(|n| file(&folder, &format!("disk{n}"), 1 << 20)).collect();
    let files = paths.iter().map(|path| format!("--blk-file={}", path.display()));
    let daemon = Daemon::start(BLK, files.chain(["--stripe-unit=4".to_owned()]));
    let mut driver = Driver::new();
    let mut connection = driver.attach(&daemon);
    assert_eq!(connection.config(8), (3 * 2048u64).to_le_bytes());
    // Six stripes in one request, each with a byte of its own.
    for stripe in 0..6u8 {
        driver.write(0, 8 * u64::from(stripe), stripe + 1, 4096);
        driver.ring_bell();
        driver.wait(1);
        assert_eq!(driver.status(0), BLOCK_STATUS_OK);
    }
    driver.request(1, BLOCK_REQUEST_IN, 0, 6 * 4096);
    driver.ring_bell();
    driver.wait(1);
    let expected: Vec<u8> = (0..6 * 4096).map(|at| (at / 4096) as u8 + 1).collect();
    assert_eq!(driver.data(1, 6 * 4096), expected);
    for (n, path) in paths.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        assert_eq!([bytes[0], bytes[4096]], [n as u8 + 1, n as u8 + 4]);
    }
}

/// Chains that fit the ring.
const SLOTS: u16 = SIZE / 3;

fn many() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 64 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let mut driver = Driver::new();
    let _connection = driver.attach(&daemon);
    for round in 0..50u64 {
        for slot in 0..SLOTS {
            let place = (round * u64::from(SLOTS) + u64::from(slot)) % 1000;
            driver.write(slot, place * 128, (place % 251) as u8, DATA);
        }
        driver.ring_bell();
        let mut slots = driver.wait(usize::from(SLOTS));
        slots.sort_unstable();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
        assert!((0..SLOTS).all(|slot| driver.status(slot) == BLOCK_STATUS_OK));
    }
    let bytes = fs::read(&path).unwrap();
    for place in 0..1000 {
        let there = &bytes[place * DATA..][..DATA];
        assert!(there.iter().all(|&byte| byte == (place % 251) as u8), "place {place}");
    }
}

fn read_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    let first = Daemon::disk(&path, &["--read-only"]);
    let second = Daemon::disk(&path, &["--read-only"]);
    for daemon in [first, second] {
        let mut driver = Driver::new();
        let connection = driver.attach(&daemon);
        assert_ne!(connection.features & BLOCK_FEATURE_RO, 0);
        driver.write(0, 0, 1, 512);
        driver.request(1, BLOCK_REQUEST_IN, 0, 512);
        driver.ring_bell();
        driver.wait(2);
        assert_eq!(driver.status(0), BLOCK_STATUS_IOERR);
        assert_eq!(driver.status(1), BLOCK_STATUS_OK);
    }
    assert!(fs::read(&path).unwrap().iter().all(|&byte| byte == 0));
}

fn stopped() {
    use vhost::VhostBackend;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 16 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let mut driver = Driver::new();
    let mut connection = driver.attach(&daemon);
    for round in 0..20u8 {
        for slot in 0..SLOTS {
            driver.write(slot, 128 * u64::from(slot), round, DATA);
        }
        driver.ring_bell();
        let base = connection.frontend.get_vring_base(0).unwrap() as u16;
        let done = driver.returned();
        let left = usize::from(driver.available.wrapping_sub(base));
        assert_eq!(done.len() + left, usize::from(SLOTS));
        driver.start(&mut connection, base);
        driver.ring_bell();
        driver.wait(left);
        assert!((0..SLOTS).all(|slot| driver.status(slot) == BLOCK_STATUS_OK));
    }
}

fn exchanged() {
    use vhost::VhostBackend;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 16 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let mut driver = Driver::new();
    let connection = driver.attach(&daemon);
    for round in 0..20u8 {
        for slot in 0..SLOTS {
            driver.write(slot, 128 * u64::from(slot), round, DATA);
        }
        driver.ring_bell();
        connection.frontend.set_mem_table(&[driver.region()]).unwrap();
        driver.wait(usize::from(SLOTS));
        assert!((0..SLOTS).all(|slot| driver.status(slot) == BLOCK_STATUS_OK));
    }
}

fn in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    let daemon = Daemon::disk(&path, &[]);
    for value in 1..=5 {
        let mut driver = Driver::new();
        let connection = driver.attach(&daemon);
        // Another one waits in line, until this one has left.
        let waiting = daemon.connect();
        driver.request(0, BLOCK_REQUEST_IN, 0, 512);
        driver.fill(1, value, 512);
        driver.request(1, BLOCK_REQUEST_OUT, 1, 512);
        driver.ring_bell();
        driver.wait(2);
        assert_eq!(daemon.servers().len(), 1);
        drop((connection, waiting));
    }
    daemon.signal(libc::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
}

fn sandboxed() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let driver = Driver::new();
    // Once the ring runs, the process is as it stays.
    let _connection = driver.attach(&daemon);
    // One byte, which programs that get core dumps heed, unless even that is not to be had.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    let limit = most.min(1).to_string();
    for pid in [daemon.pid(), daemon.server()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
        assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
        assert!(status.contains("\nThreads:\t1\n"), "{status}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some(&*limit), "{core}");
    }
}
