//! Where pages are while they are out of memory.

use denali_devices::block::BlockBackend;
use denali_swap::{PAGE, PageNumber, Store, StoreError};
use std::fmt::Display;

/// A place for pages that are out of memory: the swap store.
pub trait Backing {
    /// Why it cannot keep a page, or give it back.
    type Error: Display;

    /// Keeps a page; it need not be on the disk before [`Backing::flush`].
    ///
    /// # Errors
    /// When there is no room, or it cannot be written.
    fn put(&mut self, page: PageNumber, bytes: &[u8; PAGE]) -> Result<(), Self::Error>;

    /// Writes out what was put.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// Reads pages, one after the other, into a buffer that is as long as all of them.
    ///
    /// # Errors
    /// When one is not there, cannot be read, or is not what was put.
    fn read(&mut self, pages: &[PageNumber], into: &mut [u8]) -> Result<(), Self::Error>;

    /// A page is of no more use here.
    fn forget(&mut self, page: PageNumber);

    /// Whether a page is here.
    fn contains(&self, page: PageNumber) -> bool;

    /// The pages that are here, in any order.
    fn pages(&self) -> Vec<PageNumber>;

    /// How many pages are here.
    fn count(&self) -> usize;

    /// At most so many pages that one read brings together with `page`, which is one of them.
    fn cluster(&self, page: PageNumber, most: usize) -> Vec<PageNumber>;

    /// How many more pages can be put.
    fn room(&self) -> usize;
}

impl<B: BlockBackend> Backing for Store<B> {
    type Error = StoreError;

    fn put(&mut self, page: PageNumber, bytes: &[u8; PAGE]) -> Result<(), StoreError> {
        self.put(page, bytes)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.flush()
    }

    fn read(&mut self, pages: &[PageNumber], into: &mut [u8]) -> Result<(), StoreError> {
        self.read(pages, into)
    }

    fn forget(&mut self, page: PageNumber) {
        self.forget(page);
    }

    fn contains(&self, page: PageNumber) -> bool {
        self.contains(page)
    }

    fn pages(&self) -> Vec<PageNumber> {
        self.pages().collect()
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn cluster(&self, page: PageNumber, most: usize) -> Vec<PageNumber> {
        self.cluster(page, most)
    }

    fn room(&self) -> usize {
        self.room()
    }
}
