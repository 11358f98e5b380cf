//! Tests of the store as a whole, on real disks and on one in memory that fails and crashes at will.

mod attack;
mod backends;
mod basics;
mod bulk;
mod crash;
mod model;

use crate::{Commit, GuestId, Key, Opened, Options, PAGE, PageNumber, Store, StoreError};
use backends::{Faulty, Medium};

/// The guest of the tests.
const GUEST: GuestId = GuestId([7; 16]);

fn options(capacity: u32) -> Options {
    Options { capacity, state_max: 10_000, encrypt: true }
}

fn key() -> Key {
    Key::from_bytes(&[9; 32]).unwrap()
}

/// What a page contains: known by page and version.
fn content(page: u32, version: u32) -> [u8; PAGE] {
    let mut content = [0; PAGE];
    for (index, word) in content.chunks_mut(4).enumerate() {
        let value = (page ^ version.rotate_left(16)).wrapping_mul(2_654_435_761);
        word.copy_from_slice(&value.wrapping_add(index as u32).to_le_bytes());
    }
    content
}

type TestStore<M> = Store<Faulty<<M as Medium>::Backend>>;
type TestOpened<M> = Opened<Faulty<<M as Medium>::Backend>>;

fn format<M: Medium>(medium: &M, options: &Options) -> TestStore<M> {
    Store::format(medium.attach(), GUEST, key(), options, None).unwrap()
}

fn open<M: Medium>(
    medium: &M,
    options: &Options,
    known: Option<Commit>,
) -> Result<TestOpened<M>, StoreError> {
    Store::open(medium.attach(), GUEST, key(), options, known)
}

/// Puts pages and flushes.
fn put_all<M: Medium>(
    store: &mut TestStore<M>,
    pages: impl IntoIterator<Item = u32>,
    version: u32,
) {
    for page in pages {
        store.put(PageNumber(page), &content(page, version)).unwrap();
    }
    store.flush().unwrap();
}

/// Reads a page.
fn get<M: Medium>(store: &mut TestStore<M>, page: u32) -> Result<[u8; PAGE], StoreError> {
    let mut bytes = [0; PAGE];
    store.read(&[PageNumber(page)], &mut bytes).map(|()| bytes)
}

#[test]
fn a_store_may_be_used_by_another_thread_than_made_it() {
    fn is_send<T: Send>() {}
    is_send::<Store<denali_disk::Disk>>();
}
