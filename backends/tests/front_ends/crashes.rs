//! Back ends that are killed while they work: the next one does what is still owed, and nothing twice.

use crate::Case;
use crate::daemon::{Daemon, file, kill};
use crate::driver::{Account, DATA, Driver, SIZE};
use denali_abi::virtio::BLOCK_STATUS_OK;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

pub fn cases() -> Vec<Case> {
    vec![
        ("what_a_dead_back_end_had_taken_is_done", None, owed),
        ("killed_again_and_again_nothing_is_lost", None, killed),
        ("the_listener_s_end_ends_the_process_that_serves", None, ended),
    ]
}

/// The account as a back end leaves it that has taken requests 0 to 5, returned 0, 1, 3 and 5, and died.
fn owed() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 16 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let mut driver = Driver::new();
    let mut account: Option<Account> = None;
    let connection = driver.connect(&daemon, Some(&mut account));
    drop(connection);
    for slot in 0..7u16 {
        driver.write(slot, u64::from(slot), slot as u8 + 1, 512);
    }
    let (described, file) = account.as_ref().unwrap();
    assert!(described.mmap_size >= 16 + 16 * u64::from(SIZE));
    let mut header = [0u8; 16];
    header[8..10].copy_from_slice(&1u16.to_le_bytes());
    header[10..12].copy_from_slice(&SIZE.to_le_bytes());
    header[14..16].copy_from_slice(&4u16.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    for (slot, counter) in [(4u64, 11u64), (2, 12)] {
        let mut entry = [0u8; 16];
        entry[0] = 1;
        entry[8..16].copy_from_slice(&counter.to_le_bytes());
        file.write_at(&entry, 16 + 16 * 3 * slot).unwrap();
    }
    driver.skip_used(4);
    let mut connection = driver.connect(&daemon, Some(&mut account));
    // The base that a front end knows after a crash is the used index; the account knows better.
    driver.start(&mut connection, 4);
    let returned: BTreeSet<u16> = driver.wait(3).into_iter().collect();
    assert_eq!(returned, BTreeSet::from([2, 4, 6]));
    let bytes = fs::read(&path).unwrap();
    for slot in 0..7usize {
        let written = if returned.contains(&(slot as u16)) { slot as u8 + 1 } else { 0 };
        assert!(bytes[512 * slot..][..512].iter().all(|&byte| byte == written), "{slot}");
    }
}

fn killed() {
    const SLOTS: u16 = SIZE / 3;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 16 << 20);
    let daemon = Daemon::disk(&path, &[]);
    let mut driver = Driver::new();
    let mut account: Option<Account> = None;
    for round in 0..40u8 {
        let mut connection = driver.connect(&daemon, Some(&mut account));
        driver.start(&mut connection, driver.used_index());
        let server = daemon.server();
        for slot in 0..SLOTS {
            driver.write(slot, 128 * u64::from(slot), round, DATA);
        }
        driver.ring_bell();
        // Some are killed at once, some when they have done a part.
        while round % 4 != 0 && driver.used_index() != driver.available.wrapping_sub(SLOTS / 2) {
            if driver.available.wrapping_sub(driver.used_index()) <= SLOTS / 2 {
                break;
            }
            std::hint::spin_loop();
        }
        kill(server, libc::SIGKILL);
        drop(connection);
        let mut connection = driver.connect(&daemon, Some(&mut account));
        driver.start(&mut connection, driver.used_index());
        driver.ring_bell();
        let mut slots = driver.wait(usize::from(SLOTS));
        slots.sort_unstable();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>(), "round {round}");
        assert!((0..SLOTS).all(|slot| driver.status(slot) == BLOCK_STATUS_OK));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes[..DATA * usize::from(SLOTS)].iter().all(|&byte| byte == round));
    }
}

fn ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "disk", 1 << 20);
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let daemon = Daemon::disk(&path, &[]);
        let driver = Driver::new();
        let _connection = driver.attach(&daemon);
        let server = daemon.server();
        daemon.signal(signal);
        crate::daemon::wait_until("the process ends", || {
            let status = fs::read_to_string(format!("/proc/{server}/status"));
            status.is_err() || status.is_ok_and(|status| status.contains("State:\tZ"))
        });
    }
}
