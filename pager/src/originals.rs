//! What guest memory held before the guest changed it: the image's data, or a snapshot.

use denali_swap::{PAGE, PageNumber};
use std::io;

/// Where pages come from that are out of memory, but not in the store. A page that is neither in the store
/// nor has an original is all zeroes; so a page whose original is something else, but which has become
/// zeroes, must be in the store.
pub trait Originals: Send {
    /// Fills `into` with what the image or snapshot has there; false: it has nothing, which is zeroes.
    ///
    /// # Errors
    /// When it cannot be read, or is not what it was.
    fn read(&mut self, page: PageNumber, into: &mut [u8; PAGE]) -> io::Result<bool>;

    /// The first page from `from` on that has an original. Pages in between are zeroes.
    fn next(&self, from: PageNumber) -> Option<PageNumber>;
}

/// No originals: what is not in the store is zeroes.
impl Originals for () {
    fn read(&mut self, _: PageNumber, _: &mut [u8; PAGE]) -> io::Result<bool> {
        Ok(false)
    }

    fn next(&self, _: PageNumber) -> Option<PageNumber> {
        None
    }
}

/// Reads the original of a page, if it has one.
pub(crate) fn read(
    originals: &mut dyn Originals,
    page: PageNumber,
    into: &mut [u8; PAGE],
) -> io::Result<bool> {
    Ok(originals.next(page) == Some(page) && originals.read(page, into)?)
}
