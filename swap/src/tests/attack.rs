//! Who can write to the disks changes, exchanges and puts back what is on them.

use super::backends::{Medium, Memory};
use super::{GUEST, content, format, get, key, open, put_all};
use crate::{Commit, GuestId, Key, Options, PAGE, PageNumber, Store, StoreError, peek};
use proptest::prelude::*;

const REGION: Options = Options { capacity: 30, state_max: 10_000, encrypt: true };

/// A region with the pages 0 to 19 in slots 0 to 19, committed once.
fn sample() -> (Memory, Commit) {
    let memory = Memory::new(&REGION);
    let mut store = format(&memory, &REGION);
    put_all::<Memory>(&mut store, 0..20, 1);
    let commit = store.commit(b"one", &[PageNumber(3)]).unwrap();
    (memory, commit)
}

/// Opens the region and commits something.
fn commit_more(memory: &Memory, known: Commit, state: &[u8]) -> Commit {
    open(memory, &REGION, Some(known)).unwrap().store.commit(state, &[]).unwrap()
}

fn slot(number: u32) -> std::ops::Range<usize> {
    let start = REGION.slot_offset(number) as usize;
    start..start + PAGE
}

fn refusal(memory: &Memory, known: Option<Commit>) -> StoreError {
    open(memory, &REGION, known).err().expect("it is refused")
}

/// Whoever tidies up must not take a damaged region, of which the state may be had back, for an empty one.
#[test]
fn only_a_region_that_says_so_throughout_is_blank() {
    let is_blank = |memory: &Memory| peek(memory.attach()).unwrap().blank;
    let memory = Memory::new(&REGION);
    let mut store = format(&memory, &REGION);
    assert!(is_blank(&memory));
    memory.change(|bytes| bytes[PAGE] ^= 1);
    assert!(!is_blank(&memory));
    store.commit(b"one", &[]).unwrap();
    assert!(!is_blank(&memory));
    // Each byte of the only commit's block, such as those of its number, and what says that it is a block.
    for at in PAGE..PAGE + 300 {
        memory.change(|bytes| bytes[at] ^= 1);
        assert!(!is_blank(&memory), "{at}");
        memory.change(|bytes| bytes[at] ^= 1);
    }
    memory.change(|bytes| bytes[PAGE..PAGE + 8].fill(0));
    assert!(!is_blank(&memory));
    store.retire().unwrap();
    assert!(is_blank(&memory));
}

#[test]
fn a_page_that_was_exchanged_does_not_open() {
    let (memory, commit) = sample();
    memory.change(|bytes| {
        let (first, second) = bytes.split_at_mut(slot(5).start);
        first[slot(4)].swap_with_slice(&mut second[..PAGE]);
    });
    let mut store = open(&memory, &REGION, Some(commit)).unwrap().store;
    for page in [4, 5] {
        let error = get::<Memory>(&mut store, page).unwrap_err();
        assert!(matches!(error, StoreError::Page(PageNumber(named)) if named == page));
    }
    assert_eq!(get::<Memory>(&mut store, 6).unwrap(), content(6, 1));
}

#[test]
fn a_page_of_another_guest_does_not_open() {
    let (memory, commit) = sample();
    let other = Memory::new(&REGION);
    let mut store =
        Store::format(other.attach(), GuestId([8; 16]), Key::random().unwrap(), &REGION, None)
            .unwrap();
    put_all::<Memory>(&mut store, 0..20, 1);
    let stolen = other.copy();
    memory.change(|bytes| bytes[slot(4)].copy_from_slice(&stolen[slot(4)]));
    let mut store = open(&memory, &REGION, Some(commit)).unwrap().store;
    assert!(matches!(get::<Memory>(&mut store, 4), Err(StoreError::Page(PageNumber(4)))));
}

#[test]
fn an_old_version_of_a_page_does_not_open() {
    let (memory, commit) = sample();
    let old = memory.copy();
    let mut store = open(&memory, &REGION, Some(commit)).unwrap().store;
    // Written again and again until the slots come round.
    let mut commit = commit;
    for version in 2..5 {
        put_all::<Memory>(&mut store, 0..10, version);
        commit = store.commit(b"more", &[]).unwrap();
    }
    drop(store);
    memory.change(|bytes| {
        for number in 0..60 {
            bytes[slot(number)].copy_from_slice(&old[slot(number)]);
        }
    });
    let mut store = open(&memory, &REGION, Some(commit)).unwrap().store;
    for page in 0..10 {
        assert!(get::<Memory>(&mut store, page).is_err(), "{page}");
    }
}

#[test]
fn an_older_region_is_refused() {
    let (memory, first) = sample();
    let old = memory.copy();
    let second = commit_more(&memory, first, b"two");
    let middle = memory.copy();
    let third = commit_more(&memory, second, b"three");
    let new = memory.copy();

    memory.replace(old.clone());
    let replayed = refusal(&memory, Some(third));
    assert!(matches!(replayed, StoreError::Replayed { found: 1, known: 3 }), "{replayed}");
    assert!(matches!(refusal(&memory, Some(second)), StoreError::Replayed { found: 1, known: 2 }));
    // Where nobody remembers anything, it is as good as another.
    assert_eq!(open(&memory, &REGION, None).unwrap().state, b"one");

    // The newest superblock and manifest alone are put back: what is known is gone.
    memory.replace(new.clone());
    let area = REGION.manifest_offset(1) as usize..REGION.slot_offset(0) as usize;
    memory.change(|bytes| {
        bytes[PAGE..2 * PAGE].copy_from_slice(&middle[PAGE..2 * PAGE]);
        bytes[area.clone()].copy_from_slice(&middle[area]);
    });
    assert!(matches!(refusal(&memory, Some(third)), StoreError::Replayed { found: 2, known: 3 }));

    // More than one commit was made that nobody remembers: pages of the first may be written over.
    memory.replace(new);
    assert!(matches!(refusal(&memory, Some(first)), StoreError::Forked { found: 3, known: 1 }));
    assert_eq!(open(&memory, &REGION, Some(second)).unwrap().commit, third);
}

#[test]
fn another_course_of_the_same_guest_is_refused() {
    let (memory, first) = sample();
    let old = memory.copy();
    let second = commit_more(&memory, first, b"two");
    memory.replace(old);
    let other = commit_more(&memory, first, b"other two");
    assert_ne!(second.root, other.root);
    let forked = refusal(&memory, Some(second));
    assert!(matches!(forked, StoreError::Forked { found: 2, known: 2 }), "{forked}");
    let third = commit_more(&memory, other, b"other three");
    let forked = refusal(&memory, Some(second));
    assert!(matches!(forked, StoreError::Forked { found: 3, known: 2 }), "{forked}");
    assert_eq!(open(&memory, &REGION, Some(other)).unwrap().commit, third);
}

#[test]
fn what_is_not_the_guests_region_is_refused() {
    let (memory, commit) = sample();
    let open_as = |guest, key, options: &Options| {
        Store::open(memory.attach(), guest, key, options, Some(commit)).err()
    };
    let other = open_as(GuestId([8; 16]), key(), &REGION);
    assert!(matches!(other, Some(StoreError::OtherGuest(GUEST))));
    let other = open_as(GUEST, Key::random().unwrap(), &REGION);
    assert!(matches!(other, Some(StoreError::NotAuthentic)));
    for options in [
        Options { encrypt: false, ..REGION },
        Options { capacity: 29, ..REGION },
        Options { state_max: 9_999, ..REGION },
    ] {
        let other = open_as(GUEST, key(), &options);
        assert!(matches!(other, Some(StoreError::OtherOptions)), "{options:?}");
    }
    memory.change(|bytes| bytes[8] = 2);
    memory.change(|bytes| bytes[PAGE + 8] = 2);
    assert!(matches!(refusal(&memory, Some(commit)), StoreError::Version(2)));
    memory.change(|bytes| bytes[..2 * PAGE].fill(0));
    assert!(matches!(refusal(&memory, Some(commit)), StoreError::NoRegion));
}

#[test]
fn superblocks_have_their_places() {
    let (memory, first) = sample();
    let second = commit_more(&memory, first, b"two");
    memory.change(|bytes| {
        let (even, odd) = bytes.split_at_mut(PAGE);
        even.swap_with_slice(&mut odd[..PAGE]);
    });
    assert!(matches!(refusal(&memory, Some(second)), StoreError::NotAuthentic));
}

#[test]
fn no_two_times_that_a_state_is_opened_share_an_epoch() {
    let (memory, commit) = sample();
    let copy = memory.copy();
    let mut seeds = Vec::new();
    for _ in 0..10 {
        memory.replace(copy.clone());
        let store = open(&memory, &REGION, Some(commit)).unwrap().store;
        seeds.push(*store.sealer.epochs().last().unwrap());
    }
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed, what is found is what was committed or nothing.
    #[test]
    fn a_changed_region_is_refused_or_right(
        places in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..8),
        among_the_first in any::<bool>(),
    ) {
        let (memory, first) = sample();
        let second = commit_more(&memory, first, b"two");
        memory.change(|bytes| {
            let length = if among_the_first { 12_000 } else { bytes.len() };
            for (place, value) in places {
                bytes[place.index(length)] ^= value;
            }
        });
        for known in [Some(first), Some(second), None] {
            let Ok(mut opened) = open(&memory, &REGION, known) else { continue };
            let expected: &[u8] = if opened.commit == second { b"two" } else { b"one" };
            prop_assert_eq!(&opened.state, expected);
            for page in 0..20 {
                if let Ok(bytes) = get::<Memory>(&mut opened.store, page) {
                    prop_assert_eq!(bytes, content(page, 1));
                }
            }
        }
    }
}
