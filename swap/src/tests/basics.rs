//! What a store does when nothing goes wrong, and when one thing does.

use super::backends::{Faulty, Files, Medium, Memory};
use super::{GUEST, content, format, get, key, open, options, put_all};
use crate::manifest::Entry;
use crate::{
    Commit, Key, Mapping, PAGE, PageNumber, Store, StoreError, WrappedKey, peek, region_size,
};
use denali_disk::{Disk, DiskOptions, Method};
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

#[test]
fn pages_go_out_and_come_back_on_real_disks() {
    let region = options(1000);
    for (count, direct, method) in [
        (1, false, Method::Auto),
        (1, true, Method::Plain),
        (3, true, Method::Auto),
        (3, false, Method::Plain),
    ] {
        let disk = DiskOptions { direct, method, ..DiskOptions::default() };
        let files = Files::new(count, disk, &region);
        let mut store = format(&files, &region);
        put_all::<Files>(&mut store, 256..956, 1);
        assert_eq!((store.len(), store.room()), (700, 300));
        let pages: Vec<_> = (256..956).rev().map(PageNumber).collect();
        let mut bytes = vec![0; pages.len() * PAGE];
        store.read(&pages, &mut bytes).unwrap();
        for (page, bytes) in pages.iter().zip(bytes.chunks(PAGE)) {
            assert_eq!(bytes, content(page.0, 1));
        }
        let commit = store.commit(b"the state", &pages[..5]).unwrap();
        drop(store);
        let mut opened = open(&files, &region, Some(commit)).unwrap();
        assert_eq!((opened.commit, opened.state), (commit, b"the state".to_vec()));
        assert_eq!(opened.working_set, pages[..5]);
        assert!(opened.store.pages().eq((256..956).map(PageNumber)));
        opened.store.read(&pages, &mut bytes).unwrap();
        assert!(
            pages.iter().zip(bytes.chunks(PAGE)).all(|(page, bytes)| bytes == content(page.0, 1))
        );
    }
}

#[test]
fn pages_that_are_fetched_come_as_those_that_are_read() {
    let region = options(3000);
    for (count, direct, method) in
        [(1, true, Method::Auto), (3, true, Method::Auto), (2, false, Method::Plain)]
    {
        let disk = DiskOptions { direct, method, ..DiskOptions::default() };
        let files = Files::new(count, disk, &region);
        let mut store = format(&files, &region);
        put_all::<Files>(&mut store, 256..3000, 1);
        assert!(store.fetched().unwrap().is_none());
        let pages: Vec<_> = [2999, 300, 301, 7, 256].map(PageNumber).to_vec();
        store.fetch(&pages).unwrap();
        let fetched = store.fetched().unwrap().unwrap();
        assert_eq!(fetched.pages.len(), 4, "what is not in the store is left out");
        for (page, bytes) in fetched.pages.iter().zip(fetched.contents()) {
            assert_eq!(bytes[..], content(page.0, 1));
        }
        let all: Vec<_> = store.pages().collect();
        store.fetch(&all).unwrap();
        let fetched = store.fetched().unwrap().unwrap();
        assert!((1000..all.len()).contains(&fetched.pages.len()), "no more than is read at a time");
        store.fetch(&all).unwrap();
        assert_eq!(get::<Files>(&mut store, 2000).unwrap(), content(2000, 1), "reading goes on");
        store.fetch(&all).unwrap();
    }
}

#[test]
fn pages_that_are_fetched_to_places_come_there_or_leave_zeroes() {
    let region = options(300);
    let disk = DiskOptions { direct: true, ..DiskOptions::default() };
    let files = Files::new(2, disk, &region);
    let mut store = format(&files, &region);
    put_all::<Files>(&mut store, 256..400, 1);
    let pages: Vec<_> = [300, 299, 256, 399, 301].map(PageNumber).to_vec();
    // Some places lie one after the other, as pages do in a guest.
    let mut memory = Mapping::new(400 * PAGE).unwrap();
    let start = memory.bytes_mut().as_mut_ptr() as usize;
    let place = |page: PageNumber| {
        NonNull::new((start + page.0 as usize * PAGE) as *mut [u8; PAGE]).unwrap()
    };
    let fetch = |store: &mut Store<Faulty<Disk>>| {
        // SAFETY: the places are pages of `memory`, which lives longer than the store, and at which nobody
        // looks before `fetched` has returned.
        unsafe { store.fetch_to(&pages, &place) }.unwrap();
        store.fetched()
    };
    let fetched = fetch(&mut store).unwrap().unwrap();
    assert_eq!(fetched.pages.len(), pages.len());
    assert!(fetched.contents().is_empty(), "they are elsewhere");
    for page in &pages {
        let bytes = &memory.bytes()[page.0 as usize * PAGE..][..PAGE];
        assert_eq!(bytes, content(page.0, 1), "{page:?}");
        assert!(store.contains(*page), "they stay in the store");
    }
    assert!(memory.bytes()[..256 * PAGE].iter().all(|&byte| byte == 0), "and nowhere else");
    let entry = *store.entries.get(299).unwrap();
    store.entries.insert(299, Entry { tag: [0; 16], ..entry });
    assert!(matches!(fetch(&mut store), Err(StoreError::Page(PageNumber(299)))));
    assert!(memory.bytes().iter().all(|&byte| byte == 0), "nothing of what came is left");
}

#[test]
fn a_page_is_in_the_store_once_it_is_flushed_and_until_it_is_forgotten() {
    let memory = Memory::new(&options(100));
    let mut store = format(&memory, &options(100));
    let page = PageNumber(300);
    store.put(page, &content(300, 1)).unwrap();
    assert!(!store.contains(page) && store.is_empty() && store.room() == 99);
    assert!(
        matches!(get::<Memory>(&mut store, 300), Err(StoreError::Absent(absent)) if absent == page)
    );
    store.flush().unwrap();
    assert!(store.contains(page) && store.len() == 1 && store.room() == 99);
    store.put(page, &content(300, 2)).unwrap();
    assert_eq!(get::<Memory>(&mut store, 300).unwrap(), content(300, 1));
    store.put(page, &content(300, 3)).unwrap();
    store.flush().unwrap();
    assert_eq!(get::<Memory>(&mut store, 300).unwrap(), content(300, 3));
    assert_eq!(store.room(), 99);
    store.put(page, &content(300, 4)).unwrap();
    store.forget(page);
    store.flush().unwrap();
    assert!(!store.contains(page) && store.room() == 100);
}

#[test]
fn a_full_store_says_so_and_goes_on() {
    let memory = Memory::new(&options(70));
    let mut store = format(&memory, &options(70));
    for round in 0..5 {
        for page in 0..70 {
            store.put(PageNumber(page), &content(page, round)).unwrap();
        }
        assert_eq!(store.room(), 0);
        assert!(matches!(store.put(PageNumber(99), &[0; PAGE]), Err(StoreError::Full)));
        store.flush().unwrap();
        assert!(matches!(store.put(PageNumber(1), &[0; PAGE]), Err(StoreError::Full)));
        // All of the committed state is elsewhere than all that is out.
        store.commit(b"", &[]).unwrap();
        for page in 0..70 {
            assert_eq!(get::<Memory>(&mut store, page).unwrap(), content(page, round));
            store.forget(PageNumber(page));
        }
        assert_eq!(store.room(), 70);
    }
    let wrong = PageNumber(1 << 20);
    assert!(
        matches!(store.put(wrong, &[0; PAGE]), Err(StoreError::NoSuchPage(page)) if page == wrong)
    );
}

#[test]
fn pages_that_went_together_lie_together() {
    let memory = Memory::new(&options(1000));
    let mut store = format(&memory, &options(1000));
    let order: Vec<u32> = (0..200).map(|index| index * 7 % 200).collect();
    put_all::<Memory>(&mut store, order.iter().copied(), 1);
    let around: Vec<u32> =
        store.cluster(PageNumber(order[100]), 9).iter().map(|page| page.0).collect();
    assert_eq!(around, order[96..105]);
    store.forget(PageNumber(order[102]));
    let around = store.cluster(PageNumber(order[100]), 9);
    assert_eq!(around.len(), 9);
    assert_eq!(around[8], PageNumber(order[101]));
    assert!(store.cluster(PageNumber(order[102]), 9).is_empty());
}

#[test]
fn a_region_tells_its_guest_and_wrapped_key_to_everyone() {
    let memory = Memory::new(&options(10));
    let host = Key::random().unwrap();
    let wrapped = key().wrap(&host, GUEST).unwrap();
    let mut store =
        Store::format(memory.attach(), GUEST, key(), &options(10), Some(wrapped)).unwrap();
    put_all::<Memory>(&mut store, [5], 1);
    store.commit(b"state", &[]).unwrap();
    drop(store);
    let label = peek(memory.attach()).unwrap();
    assert_eq!((label.guest, label.options, label.commit.sequence), (GUEST, options(10), 1));
    let key = Key::unwrap(&label.wrapped_key.unwrap(), &host, label.guest).unwrap();
    let mut opened = Store::open(memory.attach(), label.guest, key, &label.options, None).unwrap();
    assert_eq!(get::<Memory>(&mut opened.store, 5).unwrap(), content(5, 1));
    opened.store.commit(b"next", &[]).unwrap();
    drop(opened);
    let first = label.commit;
    assert_eq!(label.successor_of(None), Some(first));
    let label = peek(memory.attach()).unwrap();
    assert_eq!((label.commit.sequence, label.wrapped_key), (2, Some(wrapped)));
    assert_eq!(label.successor_of(Some(first)), Some(label.commit));
    for other in [None, Some(label.commit), Some(Commit { root: [1; 32], ..first })] {
        assert_eq!(label.successor_of(other), None);
    }
    assert_eq!(WrappedKey::SIZE, 80);
    let empty = Memory::new(&options(10));
    assert!(matches!(peek(empty.attach()), Err(StoreError::NoRegion)));
}

#[test]
fn a_region_that_has_no_room_is_not_made() {
    let memory = Memory::new(&options(10));
    let made = |options| Store::format(memory.attach(), GUEST, key(), &options, None).err();
    assert!(matches!(made(options(11)), Some(StoreError::Unusable)));
    assert!(matches!(made(options(0)), Some(StoreError::Options)));
    assert!(made(options(10)).is_none());
    let store = open(&memory, &options(10), None).err();
    assert!(matches!(store, Some(StoreError::Empty)));
}

#[test]
fn a_failed_write_takes_the_batch_and_nothing_else() {
    let memory = Memory::new(&options(1000));
    let mut store = format(&memory, &options(1000));
    put_all::<Memory>(&mut store, 0..100, 1);
    store.forget(PageNumber(3));
    // The back end does the last first: one of the first four may well be done at the end only.
    memory.faults().writes_before.set(4);
    memory.faults().writes_failing.set(1);
    let put = |page: u32| store.put(PageNumber(page), &content(page, 2));
    let error = (0..600).map(put).find_map(Result::err);
    assert!(matches!(error, Some(StoreError::Write)), "it is noticed while pages are put");
    assert_eq!((store.len(), store.room()), (99, 901));
    assert_eq!(get::<Memory>(&mut store, 4).unwrap(), content(4, 1));
    assert!(!store.contains(PageNumber(3)) && !store.contains(PageNumber(200)));
    memory.faults().writes_failing.set(1);
    store.put(PageNumber(4), &content(4, 2)).unwrap();
    assert!(matches!(store.flush(), Err(StoreError::Write)));
    assert_eq!(get::<Memory>(&mut store, 4).unwrap(), content(4, 1));
    for _ in 0..10 {
        memory.faults().writes_failing.set(1);
        (100..800).for_each(|page| drop(store.put(PageNumber(page), &content(page, 2))));
        while store.flush().is_ok() {
            store.put(PageNumber(100), &content(100, 2)).unwrap();
        }
    }
    put_all::<Memory>(&mut store, 0..900, 3);
    assert_eq!(get::<Memory>(&mut store, 899).unwrap(), content(899, 3));
}

#[test]
fn a_page_that_does_not_come_back_whole_is_named_and_shown_to_nobody() {
    let memory = Memory::new(&options(1000));
    let mut store = format(&memory, &options(1000));
    put_all::<Memory>(&mut store, 0..100, 1);
    let pages: Vec<_> = (0..100).map(PageNumber).collect();
    let faults = memory.faults().clone();
    for (fault, whose) in
        [(&faults.reads_failing, 96), (&faults.reads_wrong, 99), (&faults.reads_cut, 98)]
    {
        // The back end does the last first: the part of the last four pages.
        fault.set(u32::MAX);
        let mut bytes = vec![1; 100 * PAGE];
        let error = store.read(&pages, &mut bytes).unwrap_err();
        faults.none();
        let (StoreError::Page(named) | StoreError::Read(named)) = error else { panic!("{error}") };
        assert_eq!(named, PageNumber(whose));
        assert!(bytes.iter().all(|&byte| byte == 0));
        store.read(&pages, &mut bytes).unwrap();
        assert_eq!(bytes[99 * PAGE..], content(99, 1));
    }
}

#[test]
fn a_disk_that_is_full_is_an_error_and_no_more() {
    let region = options(1000);
    // A file that can no more grow takes what is beyond its end as a full disk does: not at all.
    // SAFETY: the name is a C string; the descriptor is nobody else's.
    let file = unsafe {
        OwnedFd::from_raw_fd(libc::memfd_create(c"region".as_ptr(), libc::MFD_ALLOW_SEALING))
    };
    let file = File::from(file);
    file.set_len(region_size(&region)).unwrap();
    let disk = Disk::new(vec![file.try_clone().unwrap().into()], &DiskOptions::default()).unwrap();
    let mut store = Store::format(disk, GUEST, key(), &region, None).unwrap();
    file.set_len(region_size(&region) - 1900 * PAGE as u64).unwrap();
    // SAFETY: the descriptor is open; the call touches no memory.
    let sealed = unsafe {
        libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_ADD_SEALS, libc::F_SEAL_GROW)
    };
    assert_eq!(sealed, 0);
    for page in 0..64 {
        store.put(PageNumber(page), &content(page, 1)).unwrap();
    }
    store.flush().unwrap();
    let noticed = (64..200).find_map(|page| store.put(PageNumber(page), &content(page, 1)).err());
    let noticed = noticed.or_else(|| store.flush().err());
    assert!(matches!(noticed, Some(StoreError::Write)));
    store.flush().unwrap();
    assert_eq!((store.len(), store.room()), (64, 936));
    let mut bytes = vec![0; PAGE];
    store.read(&[PageNumber(63)], &mut bytes).unwrap();
    assert_eq!(bytes, content(63, 1));
}

#[test]
fn pages_that_are_not_encrypted_are_as_safe_from_change() {
    let plain = crate::Options { encrypt: false, ..options(100) };
    let memory = Memory::new(&plain);
    let mut store = format(&memory, &plain);
    put_all::<Memory>(&mut store, 0..10, 1);
    let place = |bytes: &[u8]| bytes.windows(PAGE).position(|bytes| bytes == content(4, 1));
    let place = place(&memory.copy()).expect("it is there as it is");
    assert_eq!(get::<Memory>(&mut store, 4).unwrap(), content(4, 1));
    memory.change(|bytes| bytes[place + 17] ^= 1);
    assert!(matches!(get::<Memory>(&mut store, 4), Err(StoreError::Page(PageNumber(4)))));
    let encrypted = Memory::new(&options(100));
    let mut store = format(&encrypted, &options(100));
    put_all::<Memory>(&mut store, 0..10, 1);
    let part = &content(4, 1)[..64];
    assert!(!encrypted.copy().windows(64).any(|bytes| bytes == part));
}

#[test]
fn an_idle_store_has_no_buffers() {
    let memory = Memory::new(&options(1000));
    let mut store = format(&memory, &options(1000));
    put_all::<Memory>(&mut store, 0..500, 1);
    assert!(store.clusters.is_idle());
    store.put(PageNumber(1), &content(1, 1)).unwrap();
    assert!(!store.clusters.is_idle());
    store.commit(b"", &[]).unwrap();
    assert!(store.clusters.is_idle());
}

#[test]
fn epochs_do_not_pile_up() {
    let region = options(140);
    let memory = Memory::new(&region);
    let mut store = format(&memory, &region);
    // Full, so that pages of old epochs are written anew where there is no room.
    put_all::<Memory>(&mut store, 0..140, 0);
    let mut commit = store.commit(b"", &[]).unwrap();
    for round in 1..140 {
        drop(store);
        store = open(&memory, &region, Some(commit)).unwrap().store;
        assert!(store.sealer.epochs().len() <= 65);
        let page = PageNumber(round);
        store.forget(page);
        store.put(page, &content(round, round)).unwrap();
        commit = store.commit(b"", &[]).unwrap();
    }
    let mut store = open(&memory, &region, Some(commit)).unwrap().store;
    assert_eq!((store.len(), store.sealer.epochs().len()), (140, 65));
    for page in 0..140 {
        assert_eq!(get::<Memory>(&mut store, page).unwrap(), content(page, page));
    }
}
