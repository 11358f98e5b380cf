//! Tests of the manifest's format: what is written is read, and nothing else is.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OPTIONS: Options = Options { capacity: 40, state_max: 100, encrypt: true };

/// Entries from numbers: page, slot, epoch, counter.
fn entries(list: &[(u32, u32, u8, u64)]) -> Sparse<Entry> {
    let mut entries = Sparse::default();
    for &(page, slot, epoch, counter) in list {
        let tag = [slot as u8; TAG];
        entries.insert(page, Entry { slot, stamp: Stamp::new(epoch, counter), tag });
    }
    entries
}

fn encode(epochs: &[Seed], entries: &Sparse<Entry>, working_set: &[u32], state: &[u8]) -> Vec<u8> {
    let working_set: Vec<_> = working_set.iter().map(|&page| PageNumber(page)).collect();
    let contents = Contents { epochs, entries, working_set: &working_set, state };
    let mut bytes = vec![0; contents.size()];
    contents.encode(&mut bytes);
    bytes
}

fn list(entries: &Sparse<Entry>) -> Vec<(u32, Entry)> {
    entries.iter().map(|(page, &entry)| (page, entry)).collect()
}

fn sample() -> Vec<u8> {
    let entries = entries(&[(256, 0, 0, 7), (300, 79, 2, 1 << 50), (1 << 19, 3, 0, 8)]);
    encode(&[[1; 32], [2; 32], [3; 32]], &entries, &[300, 256], b"state")
}

#[test]
fn epochs_without_pages_are_left_out() {
    let manifest = Manifest::decode(&sample(), &OPTIONS).unwrap();
    assert_eq!(manifest.epochs, [[1; 32], [3; 32]]);
    let stamps: Vec<_> = manifest.entries.iter().map(|(_, entry)| entry.stamp).collect();
    assert_eq!(stamps, [Stamp::new(0, 7), Stamp::new(1, 1 << 50), Stamp::new(0, 8)]);
    assert_eq!(manifest.working_set, [PageNumber(300), PageNumber(256)]);
    assert_eq!(manifest.state, b"state");
}

#[test]
fn the_largest_manifest_fits() {
    let pages: Vec<_> = (0..40).map(|page| (page, 2 * page, page as u8, 9)).collect();
    let working_set: Vec<_> = (0..40).collect();
    let bytes = encode(&[[1; 32]; 64], &entries(&pages), &working_set, &[0; 100]);
    assert!(Manifest::decode(&bytes, &OPTIONS).is_ok());
    let unused = (EPOCHS_MAX - 40) * KEY;
    assert_eq!((bytes.len() + unused + TAG) as u64, size_max(&OPTIONS));
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |list: &[(u32, u32, u8, u64)], working_set: &[u32], state: &[u8]| {
        let bytes = encode(&[[1; 32]; 3], &entries(list), working_set, state);
        Manifest::decode(&bytes, &OPTIONS).is_err()
    };
    assert!(!refused(&[(1, 2, 0, 0), (2, 3, 0, 1)], &[2, 1], &[0; 100]));
    assert!(refused(&[(1, 80, 0, 0)], &[], &[]), "a slot out of range");
    assert!(refused(&[(1, 2, 0, 0), (2, 2, 0, 1)], &[], &[]), "a slot twice");
    assert!(refused(&[(PAGES_MAX, 2, 0, 0)], &[], &[]), "a page out of range");
    assert!(refused(&[(1, 2, 0, 0)], &[3], &[]), "a working set that is not out");
    assert!(refused(&[(1, 2, 0, 0)], &[1, 1], &[]), "a page twice in the working set");
    assert!(refused(&[], &[], &[0; 101]), "a long state");
    let many: Vec<_> = (0..41).map(|page| (page, page, 0, 0)).collect();
    assert!(refused(&many, &[], &[]), "more pages than can be out");

    let order = |first: u32, second: u32| {
        let mut bytes = encode(&[[1; 32]], &entries(&[(1, 2, 0, 0), (2, 3, 0, 1)]), &[], &[]);
        let place = COUNTS + KEY;
        bytes[place..place + 4].copy_from_slice(&first.to_le_bytes());
        bytes[place + ENTRY..place + ENTRY + 4].copy_from_slice(&second.to_le_bytes());
        Manifest::decode(&bytes, &OPTIONS).is_ok()
    };
    assert!(order(1, 2) && !order(2, 2) && !order(2, 1), "pages ascend");
    let mut unknown = sample();
    unknown[COUNTS + 2 * KEY + 15] = 2;
    assert!(Manifest::decode(&unknown, &OPTIONS).is_err(), "an epoch that is not there");
}

#[test]
fn one_byte_more_or_less_is_refused() {
    let mut bytes = sample();
    for length in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..length], &OPTIONS).is_err(), "{length}");
    }
    bytes.push(0);
    assert!(Manifest::decode(&bytes, &OPTIONS).is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pages in prop::collection::btree_map(0..PAGES_MAX, (0..5_u8, any::<u32>()), 0..40),
        working_set in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        state in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let epochs = [[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]];
        let place = |(index, (&page, &(epoch, counter)))| (page, index, epoch, u64::from(counter));
        let placed: Vec<_> = (0..).zip(&pages).map(place).collect();
        let mut working: Vec<u32> = Vec::new();
        for index in working_set.iter().filter(|_| !pages.is_empty()) {
            let page = placed[index.index(placed.len())].0;
            if !working.contains(&page) {
                working.push(page);
            }
        }
        let written = entries(&placed);
        let bytes = encode(&epochs, &written, &working, &state);
        prop_assert!(bytes.len() as u64 + TAG as u64 <= size_max(&OPTIONS));
        let read = Manifest::decode(&bytes, &OPTIONS).unwrap();
        prop_assert_eq!(&read.state, &state);
        prop_assert_eq!(read.working_set.iter().map(|page| page.0).collect::<Vec<_>>(), working);
        let seed = |epochs: &[Seed], entry: &Entry| epochs[usize::from(entry.stamp.epoch())];
        for ((page, before), (same, after)) in list(&written).iter().zip(&list(&read.entries)) {
            prop_assert_eq!((page, before.slot, before.tag), (same, after.slot, after.tag));
            prop_assert_eq!(before.stamp.counter(), after.stamp.counter());
            prop_assert_eq!(seed(&epochs, before), seed(&read.epochs, after));
        }
        prop_assert_eq!(written.len(), read.entries.len());
    }

    /// What is accepted is sound, whatever it was made of.
    #[test]
    fn damaged_manifests_are_refused_or_sound(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        for (index, value) in &changes {
            let index = index.index(bytes.len());
            bytes[index] = *value;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        sound_or_refused(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_sound(
        counts in [0..3_u8, 0..4_u8, 0..3_u8, 0..9_u8],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes: Vec<u8> = counts.iter().flat_map(|&count| [count, 0, 0, 0]).collect();
        bytes.extend(&rest);
        sound_or_refused(&bytes)?;
        sound_or_refused(&rest)?;
    }
}

fn sound_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(manifest) = Manifest::decode(bytes, &OPTIONS) else { return Ok(()) };
    let entries = list(&manifest.entries);
    let slots: BTreeMap<_, _> = entries.iter().map(|(page, entry)| (entry.slot, page)).collect();
    prop_assert_eq!(slots.len(), entries.len());
    prop_assert!(slots.keys().all(|&slot| slot < OPTIONS.slots()));
    for (page, entry) in &entries {
        prop_assert!(*page < PAGES_MAX);
        prop_assert!(usize::from(entry.stamp.epoch()) < manifest.epochs.len());
    }
    prop_assert!(manifest.working_set.iter().all(|page| manifest.entries.get(page.0).is_some()));
    prop_assert!(manifest.working_set.len() <= entries.len());
    prop_assert!(manifest.state.len() <= OPTIONS.state_max as usize);
    Ok(())
}
