//! A monitor, or the whole host, ends in the middle: the state before is found whole, or the next one.

use super::backends::{Medium, Memory};
use super::{content, format, get, open, options, put_all};
use crate::{Commit, Options, PageNumber, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Pages = BTreeMap<u32, u32>;

/// A state that was committed, or was to be.
#[derive(Clone, Debug)]
struct Expected {
    state: Vec<u8>,
    pages: Pages,
}

/// Changes between two commits: pages put, by ranges, and forgotten.
#[derive(Clone, Debug)]
struct Change {
    put: Vec<(u32, u32)>,
    forget: Vec<(u32, u32)>,
}

fn change() -> impl Strategy<Value = Change> {
    let ranges = || prop::collection::vec((0..120_u32, 1..50_u32), 0..4);
    (ranges(), ranges()).prop_map(|(put, forget)| Change { put, forget })
}

/// Applies a change; the error that ended it.
fn apply(
    store: &mut super::TestStore<Memory>,
    pages: &mut Pages,
    change: &Change,
    version: u32,
) -> Result<(), StoreError> {
    let range = |&(first, count): &(u32, u32)| first..first + count;
    for page in change.forget.iter().flat_map(range) {
        store.forget(PageNumber(page));
        pages.remove(&page);
    }
    for page in change.put.iter().flat_map(range) {
        store.put(PageNumber(page), &content(page, version))?;
        pages.insert(page, version);
    }
    store.flush()
}

/// Opens what is left: it must be one of two states, every page of it. Which.
fn check(memory: &Memory, region: &Options, known: Commit, states: [&Expected; 2]) -> usize {
    let mut opened = open(memory, region, Some(known)).expect("a state is found");
    let which = usize::from(opened.commit != known);
    let expected = states[which];
    assert_eq!(opened.state, expected.state);
    assert!(opened.store.pages().map(|page| page.0).eq(expected.pages.keys().copied()));
    for (&page, &version) in &expected.pages {
        assert_eq!(get::<Memory>(&mut opened.store, page).unwrap(), content(page, version));
    }
    // It goes on from there.
    let next = opened.store.commit(b"next", &[]).unwrap();
    drop(opened);
    assert_eq!(open(memory, region, Some(next)).unwrap().state, b"next");
    which
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The power goes at any point between one commit and the next, or after it, and what the disk had not
    /// been told to keep is partly there, by sectors.
    #[test]
    fn after_a_crash_one_of_two_states_is_whole(
        first in change(),
        second in change(),
        third in change(),
        moment in any::<prop::sample::Index>(),
        luck in any::<u64>(),
        twice in any::<bool>(),
    ) {
        // So few slots that they are used again soon.
        let region = options(170);
        // How many operations the whole takes, then again with the power cut after some of them.
        let mut operations = u32::MAX;
        for rehearsal in [true, false] {
            let memory = Memory::new(&region);
            let mut store = format(&memory, &region);
            let mut pages = Pages::new();
            apply(&mut store, &mut pages, &first, 1).unwrap();
            let mut known = store.commit(b"first", &[]).unwrap();
            let before = Expected { state: b"first".to_vec(), pages: pages.clone() };
            if twice {
                // An older state is in the other superblock.
                known = store.commit(b"first", &[]).unwrap();
            }
            let power = if rehearsal { u32::MAX } else { moment.index(operations as usize + 1) as u32 };
            memory.cut_power_after(power);
            let mut committed = None;
            let mut run = || -> Result<(), StoreError> {
                for version in 2..5 {
                    apply(&mut store, &mut pages, &second, version)?;
                }
                committed = Some((None, pages.clone()));
                let commit = store.commit(b"second", &[])?;
                committed = Some((Some(commit), pages.clone()));
                (5..8).try_for_each(|version| apply(&mut store, &mut pages, &third, version))
            };
            let _ = run();
            operations = if rehearsal { memory.used_of(u32::MAX) } else { operations };
            drop(store);
            let mut random = luck | 1;
            memory.crash(|| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                match luck % 4 {
                    0 => false,
                    1 => true,
                    _ => random % 3 > 0,
                }
            });
            let (commit, pages) = committed.unwrap_or_default();
            let after = Expected { state: b"second".to_vec(), pages };
            let copy = memory.copy();
            let which = check(&memory, &region, known, [&before, &after]);
            if let Some(commit) = commit {
                prop_assert_eq!(which, 1, "what was committed is not lost");
                memory.replace(copy);
                check(&memory, &region, commit, [&after, &after]);
            }
        }
    }
}

#[test]
fn a_successor_whose_manifest_is_damaged_is_passed_over() {
    let region = options(50);
    let memory = Memory::new(&region);
    let mut store = format(&memory, &region);
    put_all::<Memory>(&mut store, 0..20, 1);
    let known = store.commit(b"known", &[]).unwrap();
    let next = store.commit(b"next", &[]).unwrap();
    drop(store);
    let place = region.manifest_offset(next.sequence) as usize;
    memory.change(|bytes| bytes[place] ^= 1);
    assert_eq!(open(&memory, &region, Some(known)).unwrap().state, b"known");
    assert!(matches!(open(&memory, &region, Some(next)).err(), Some(StoreError::Manifest)));
    // Where nothing is known, what was the newest must not be hidden by damage.
    assert!(matches!(open(&memory, &region, None).err(), Some(StoreError::Manifest)));
}

#[test]
fn a_commit_that_may_have_failed_is_followed_by_none() {
    for (flushes_before, writes_before) in [(0, None), (1, None), (0, Some(1))] {
        let region = options(50);
        let memory = Memory::new(&region);
        let mut store = format(&memory, &region);
        put_all::<Memory>(&mut store, 0..20, 1);
        let known = store.commit(b"known", &[]).unwrap();
        match writes_before {
            // The manifest is written, the superblock is not.
            Some(before) => {
                memory.faults().writes_before.set(before);
                memory.faults().writes_failing.set(1);
            }
            None if flushes_before == 0 => memory.faults().flushes_failing.set(1),
            // Manifest, flush, superblock; not the last flush.
            None => memory.cut_power_after(3),
        }
        assert!(matches!(store.commit(b"next", &[]), Err(StoreError::ReadOnly)));
        memory.faults().none();
        memory.cut_power_after(u32::MAX);
        let put = store.put(PageNumber(1), &content(1, 2));
        assert!(matches!(put, Err(StoreError::ReadOnly)));
        assert!(matches!(store.commit(b"next", &[]), Err(StoreError::ReadOnly)));
        assert_eq!(get::<Memory>(&mut store, 19).unwrap(), content(19, 1));
        drop(store);
        memory.crash(|| false);
        assert_eq!(open(&memory, &region, Some(known)).unwrap().state, b"known");
    }
}

#[test]
fn a_manifest_that_cannot_be_written_changes_nothing() {
    let region = options(50);
    let memory = Memory::new(&region);
    let mut store = format(&memory, &region);
    put_all::<Memory>(&mut store, 0..20, 1);
    let known = store.commit(b"known", &[]).unwrap();
    memory.faults().writes_failing.set(1);
    assert!(matches!(store.commit(b"next", &[]), Err(StoreError::Write)));
    let long = store.commit(&[0; 10_001], &[]);
    assert!(matches!(long, Err(StoreError::StateTooLong { length: 10_001, max: 10_000 })));
    assert_eq!(store.last_commit(), known);
    let next = store.commit(b"next", &[]).unwrap();
    assert_eq!(next.sequence, known.sequence + 1);
    drop(store);
    assert_eq!(open(&memory, &region, Some(known)).unwrap().state, b"next");
}
