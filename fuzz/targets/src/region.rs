//! Swap regions: superblocks and everything behind them as anything, and manifests behind an authentic seal.

use crate::disk::Disk;
use crate::input::{BLOCK, Input, put_piece};
use crate::memory::bounded;
use denali_swap::fuzzing::{region_of_manifest, rewrite_manifest, rewrite_superblock};
use denali_swap::{
    Commit, GuestId, Key, Opened, Options, PAGE, PageNumber, Store, StoreError, peek, region_size,
};

const GUEST: GuestId = GuestId([7; 16]);
const CAPACITY: u32 = 6;
const STATE_MAX: u32 = 600;

/// What opening such a small region may allocate, in bytes: most of it is two indices of pages, which reach as high
/// as the highest page.
const OPENING: usize = 384 << 10;

fn options(encrypt: bool) -> Options {
    Options { capacity: CAPACITY, state_max: STATE_MAX, encrypt }
}

fn key() -> Key {
    Key::from_bytes(&[9; 32]).expect("the host has locked memory for a key")
}

/// A region whose blocks are anything. The input: whether pages are encrypted (bit 0) and what is known
/// (bits 1 and 2), then pieces of blocks.
pub fn region(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.byte();
    let options = options(choice & 1 != 0);
    let disk = Disk::new(region_size(&options));
    while let Some((block, content)) = input.piece() {
        disk.put(block * BLOCK as u64, content);
    }
    for number in [0, 1] {
        let block = disk.block(number);
        if let Some(again) = rewrite_superblock(&block) {
            assert_eq!(again, block[..again.len()], "a superblock says nothing that is not heard");
        }
    }
    let label = bounded(OPENING, || peek(disk.clone())).ok();
    let known = match (choice >> 1 & 3, label) {
        (0, _) | (_, None) => None,
        (1, Some(label)) => Some(label.commit),
        (_, Some(label)) => {
            let sequence = label.commit.sequence.wrapping_sub(1);
            let before = Commit { sequence, root: label.parent };
            assert_eq!(label.successor_of(Some(before)).is_some(), label.commit.sequence > 0);
            Some(before)
        }
    };
    let opened = bounded(OPENING, || Store::open(disk.clone(), GUEST, key(), &options, known));
    assert!(!disk.is_written(), "who only opens a region writes nothing");
    if let Ok(opened) = opened {
        goes_on(opened, &disk, &options);
    }
}

/// A region whose manifest is anything, sealed as a store would. The input: whether pages are encrypted (bit 0),
/// then the manifest.
pub fn manifest(bytes: &[u8]) {
    let mut input = Input(bytes);
    let options = options(input.byte() & 1 != 0);
    let content = input.0;
    let again = rewrite_manifest(content, &options);
    if let Some(again) = &again {
        let epochs = |manifest: &[u8]| manifest[..4].to_vec();
        if epochs(again) == epochs(content) {
            assert_eq!(again, content, "a manifest says nothing that is not heard");
        }
        assert_eq!(rewrite_manifest(again, &options).as_ref(), Some(again));
    }
    let Some(pieces) = region_of_manifest(content, (GUEST, &key()), &options) else { return };
    let disk = Disk::new(region_size(&options));
    pieces.iter().for_each(|(offset, bytes)| disk.put(*offset, bytes));
    let opened = bounded(OPENING, || Store::open(disk.clone(), GUEST, key(), &options, None));
    assert!(!disk.is_written(), "who only opens a region writes nothing");
    match opened {
        Ok(opened) => {
            assert!(again.is_some(), "what opens is a manifest");
            assert_eq!(opened.commit.sequence, 1);
            goes_on(opened, &disk, &options);
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Manifest), "{error}");
            assert!(again.is_none(), "a manifest opens");
        }
    }
}

/// A store that was opened works: its pages are whole or named, it takes others, and what it commits is found.
fn goes_on(opened: Opened<Disk>, disk: &Disk, options: &Options) {
    let Opened { mut store, commit, state, working_set } = opened;
    let pages: Vec<PageNumber> = store.pages().collect();
    assert!(pages.is_sorted() && pages.len() <= CAPACITY as usize && pages.len() == store.len());
    assert!(working_set.iter().all(|&page| store.contains(page)));
    assert!(state.len() <= STATE_MAX as usize);
    let mut content = [0; PAGE];
    let mut damaged = Vec::new();
    for &page in &pages {
        assert!(store.cluster(page, 4).contains(&page));
        match store.read(&[page], &mut content) {
            Ok(()) => {}
            Err(StoreError::Page(named)) if named == page => {
                assert_eq!(content, [0; PAGE], "nothing of a damaged page is shown");
                damaged.push(page);
            }
            Err(error) => panic!("{error}"),
        }
    }
    damaged.iter().for_each(|&page| store.forget(page));
    if store.room() > 0 {
        store.put(PageNumber(0x123), &[3; PAGE]).expect("there is room");
    }
    let kept: Vec<PageNumber> =
        working_set.into_iter().filter(|&page| store.contains(page)).collect();
    // Epochs may be too many, and then be renewed; their pages are whole.
    let next = store.commit(&state, &kept).expect("what can be read can be committed");
    assert_eq!(next.sequence, commit.sequence + 1);
    let pages: Vec<PageNumber> = store.pages().collect();
    drop(store);
    let again = Store::open(disk.clone(), GUEST, key(), options, Some(next));
    let again = again.expect("what was committed is found");
    assert_eq!((again.commit, again.state), (next, state));
    assert_eq!(again.store.pages().collect::<Vec<_>>(), pages);
    assert_eq!(again.working_set, kept);
    let before = Store::open(disk.clone(), GUEST, key(), options, Some(commit));
    assert_eq!(before.expect("it follows from the one before").commit, next);
}

/// Regions at several stages, as stores make them.
#[must_use]
pub fn region_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for choice in [0, 1, 2, 5] {
        let options = options(choice & 1 != 0);
        let disk = Disk::new(region_size(&options));
        let store = Store::format(disk.clone(), GUEST, key(), &options, None);
        let mut store = store.expect("a region can be made");
        seeds.push(written_down(choice, &disk));
        for round in 0..2 {
            let page = PageNumber(0x200 + round);
            // Pages that are not encrypted stay zeroes but for one byte, and so small.
            let mut content = [0; PAGE];
            content[0] = 1 + round as u8;
            store.put(page, &content).expect("there is room");
            store.commit(b"state", &[page]).expect("memory does not fail");
            if choice & 1 == 0 {
                seeds.push(written_down(choice, &disk));
            }
        }
    }
    seeds
}

fn written_down(choice: u8, disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![choice];
    for number in disk.numbers() {
        put_piece(&mut bytes, number as u8, &disk.block(number));
    }
    bytes
}

/// Manifests by hand: none, one page, and all that there is room for.
#[must_use]
pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let manifest = |epochs: u32, pages: u32, working_set: u32, state: &[u8]| {
        let mut bytes = vec![1];
        for count in [epochs, pages, working_set, state.len() as u32] {
            bytes.extend(count.to_le_bytes());
        }
        (0..epochs).for_each(|epoch| bytes.extend([epoch as u8; 32]));
        for page in 0..pages {
            bytes.extend((page * 70).to_le_bytes());
            bytes.extend((2 * page).to_le_bytes());
            let stamp = u64::from(page % epochs) << 56 | u64::from(page);
            bytes.extend(stamp.to_le_bytes());
            bytes.extend([page as u8; 16]);
        }
        (0..working_set).rev().for_each(|page| bytes.extend((page * 70).to_le_bytes()));
        bytes.extend(state);
        bytes
    };
    vec![
        manifest(0, 0, 0, b""),
        manifest(1, 1, 1, b"state"),
        manifest(3, CAPACITY, 2, &[7; STATE_MAX as usize]),
        manifest(64, CAPACITY, CAPACITY, b"{}"),
    ]
}
