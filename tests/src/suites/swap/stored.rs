//! What is on the swap disks: nothing that can be read, and nothing for longer than the guest lives.

use crate::backend::Backend;
use crate::guest::Guest;
use crate::home::Home;
use crate::lines::Lines;
use crate::process;
use crate::registry::Case;
use serde_json::json;
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("what_is_stored_cannot_be_read", |it| assert!(!reads_as_written(it, true))),
        Case::each("what_is_stored_unencrypted_can_be_read", |it| {
            assert!(reads_as_written(it, false));
        }),
        Case::each("the_folders_are_empty_while_the_guest_lives_and_after", nothing_left),
        Case::each("a_key_in_a_file_is_checked", keys).needs(crate::registry::Need::ProcessOnly),
    ]
}

/// The files of a guest's region, opened by way of its monitor: they have no names any more.
pub fn region_files(guest: &Guest) -> Vec<String> {
    let descriptors = process::descriptors(guest.pid()).expect("the monitor is there");
    let region = descriptors.into_iter().filter(|(_, name)| name.contains(".swap"));
    region.map(|(number, _)| format!("/proc/{}/fd/{number}", guest.pid())).collect()
}

/// Mixes a number as the guest does.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Some bytes of a page that the guest has never changed, from this word of it on.
fn content(page: u64, word: u64) -> Vec<u8> {
    let seed = mix(page << 32);
    (word..word + 8).flat_map(|index| mix(seed ^ index).to_le_bytes()).collect()
}

/// Whether what the guest has in memory is found in its region's files. Its pages begin somewhere within
/// pages of the host's, so one of two places of each is cut in two at most.
fn reads_as_written(backend: Backend, encrypt: bool) -> bool {
    let home = Home::new(2);
    let mut configuration = home.probe("memory-hash 1");
    configuration["swap"]["encrypt"] = json!(encrypt);
    let (guest, _) = home.start_as(backend, &configuration);
    let control = home.control();
    assert!(control.swap_out() > 256);
    let files = region_files(&guest);
    assert_eq!(files.len(), 2, "{files:?}");
    let stored: Vec<u8> =
        files.iter().flat_map(|file| fs::read(file).expect("the region is readable")).collect();
    assert!(stored.iter().filter(|&&byte| byte != 0).count() > 1 << 19, "it is stored");
    // Words are where words can be.
    let places = (0..stored.len() - 64).step_by(8);
    let is_there = |bytes: Vec<u8>| places.clone().any(|at| stored[at..].starts_with(&bytes));
    let found: Vec<bool> =
        [3, 200].map(|page| is_there(content(page, 100)) || is_there(content(page, 356))).into();
    assert_eq!(found[0], found[1]);
    found[0]
}

fn nothing_left(backend: Backend) {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let home = Home::new(3);
        let (guest, address) = home.start(backend, "memory-hash 1");
        let control = home.control();
        assert!(home.regions().is_empty(), "{:?}", home.regions());
        control.swap_out();
        Lines::connect(address).check();
        control.swap_out();
        assert!(home.regions().is_empty(), "{:?}", home.regions());
        guest.signal(signal);
        guest.finish();
        assert!(home.regions().is_empty(), "{:?}", home.regions());
    }
}

/// A host's key that others may read, or that is none, is refused in one line.
fn keys(backend: Backend) {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(1);
    let key = home.path("host.key");
    let mut configuration = home.probe("exit 0");
    configuration["swap"]["key"] = json!({ "file": key });
    let fails = |message: &str| {
        let finished = home.run(backend, &configuration).finish();
        assert_eq!(finished.status, 124, "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains("swap.key"), "{finished:?}");
        assert!(finished.stderr.contains(message), "{finished:?}");
    };
    let mode = |mode: u32| fs::set_permissions(&key, fs::Permissions::from_mode(mode));
    fails("host.key");
    fs::write(&key, [7; 32]).expect("a key");
    mode(0o640).expect("modes can be set");
    fails("others have rights");
    mode(0o600).expect("modes can be set");
    home.run(backend, &configuration).expect(0);
    fs::write(&key, [7; 31]).expect("a key");
    fails("32 bytes");
}
