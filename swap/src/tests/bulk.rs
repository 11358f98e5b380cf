//! Tests of many pages at a time, which two threads put.

use super::backends::{Files, Memory};
use super::*;
use crate::bulk::MANY;
use denali_disk::DiskOptions;

/// More than are put by one thread, and no whole number of clusters.
const COUNT: u32 = MANY as u32 + 1000;

fn pages(pages: impl IntoIterator<Item = u32>) -> Vec<PageNumber> {
    pages.into_iter().map(PageNumber).collect()
}

/// Puts pages, of which every seventh turns out not to be wanted.
fn put_most<M: Medium>(
    store: &mut TestStore<M>,
    numbers: impl IntoIterator<Item = u32>,
    version: u32,
) -> Result<(), StoreError> {
    store.put_all(&pages(numbers), |page, into| {
        *into = content(page.0, version);
        Ok(page.0 % 7 != 0)
    })
}

#[track_caller]
fn assert_most<M: Medium>(store: &mut TestStore<M>, numbers: std::ops::Range<u32>, version: u32) {
    for page in numbers {
        match page % 7 {
            0 => assert!(!store.contains(PageNumber(page))),
            _ => assert_eq!(get::<M>(store, page).unwrap(), content(page, version), "page {page}"),
        }
    }
}

#[test]
fn many_pages_go_out_and_come_back_on_real_disks() {
    let region = options(2 * COUNT);
    let disks = Files::new(3, DiskOptions::default(), &region);
    let mut store = format(&disks, &region);
    // Some are being put already, and some are put again.
    store.put(PageNumber(COUNT + 1), &content(COUNT + 1, 1)).unwrap();
    put_most::<Files>(&mut store, 0..COUNT, 1).unwrap();
    store.flush().unwrap();
    assert_most::<Files>(&mut store, 0..COUNT, 1);
    assert_eq!(get::<Files>(&mut store, COUNT + 1).unwrap(), content(COUNT + 1, 1));
    put_most::<Files>(&mut store, (0..COUNT).rev(), 2).unwrap();
    put_most::<Files>(&mut store, 0..100, 3).unwrap();
    store.flush().unwrap();
    assert_most::<Files>(&mut store, 0..100, 3);
    assert_most::<Files>(&mut store, 100..COUNT, 2);
    let commit = store.commit(b"state", &[]).unwrap();
    drop(store);
    let mut opened = open(&disks, &region, Some(commit)).unwrap();
    assert_most::<Files>(&mut opened.store, 100..COUNT, 2);
}

#[test]
fn when_one_of_many_cannot_be_had_or_written_none_is_put() {
    let region = options(2 * COUNT);
    let memory = Memory::new(&region);
    let mut store = format(&memory, &region);
    put_all::<Memory>(&mut store, 0..COUNT, 1);
    let room = store.room();
    for written in [0, 1, 20, 35] {
        memory.faults().writes_before.set(written);
        memory.faults().writes_failing.set(1);
        let put = put_most::<Memory>(&mut store, 0..COUNT, 2).and_then(|()| store.flush());
        assert!(matches!(put, Err(StoreError::Write)), "after {written} writes: {put:?}");
        memory.faults().none();
        assert_eq!((store.len(), store.room()), (COUNT as usize, room));
    }
    for last in [0, 100, COUNT - 1] {
        let put = store.put_all(&pages(0..COUNT), |page, into| {
            *into = content(page.0, 2);
            if page.0 == last { Err(StoreError::Absent(page)) } else { Ok(true) }
        });
        assert!(matches!(put, Err(StoreError::Absent(page)) if page.0 == last));
        store.flush().unwrap();
        assert_eq!((store.len(), store.room()), (COUNT as usize, room));
    }
    assert_eq!(get::<Memory>(&mut store, 5).unwrap(), content(5, 1));
    put_most::<Memory>(&mut store, 0..COUNT, 3).unwrap();
    store.flush().unwrap();
    assert_eq!(get::<Memory>(&mut store, 5).unwrap(), content(5, 3));
}

#[test]
fn more_pages_than_there_is_room_for_are_refused_and_no_others() {
    let region = options(COUNT - COUNT.div_ceil(7));
    let memory = Memory::new(&region);
    let mut store = format(&memory, &region);
    let all = store.put_all(&pages(0..COUNT), |_, _| Ok(true));
    assert!(matches!(all, Err(StoreError::Full)));
    assert_eq!(store.room(), region.capacity as usize);
    // Those that are not wanted take no room.
    put_most::<Memory>(&mut store, 0..COUNT, 1).unwrap();
    store.flush().unwrap();
    assert_eq!(store.room(), 0);
    assert_most::<Memory>(&mut store, 0..COUNT, 1);
}
