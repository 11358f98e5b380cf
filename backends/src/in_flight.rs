//! Requests in flight, kept in memory that outlives this process: the front end holds it, and hands it
//! to the back end that takes over after a crash.
//!
//! The layout is that of the vhost-user specification for split rings ("Inflight I/O tracking"): for
//! each ring a header of 16 bytes and an entry of 16 bytes for each descriptor.

use crate::ring::SIZE_MAX;
use denali_devices::virtio::InFlight;
use std::fs::File;
use std::io;
use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering, fence};
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::{AtomicAccess, Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Bytes of the header: features, version, number of descriptors, last batch's head, used index.
const HEADER: usize = 16;
/// Bytes of an entry: in flight or not, the next of its batch, when it was taken.
const ENTRY: usize = 16;
/// Rings' parts of the region begin at multiples of this.
const ALIGNMENT: usize = 64;
/// The layout's version.
const VERSION: u16 = 1;

const VERSION_AT: usize = 8;
const DESCRIPTORS_AT: usize = 10;
const LAST_BATCH_HEAD_AT: usize = 12;
const USED_INDEX_AT: usize = 14;
const ENTRY_IN_FLIGHT: usize = 0;
const ENTRY_COUNTER: usize = 8;

/// Bytes of the part of a ring with `size` entries.
fn part(size: u16) -> usize {
    (HEADER + ENTRY * usize::from(size)).next_multiple_of(ALIGNMENT)
}

/// Makes a region for as many rings, empty, and describes it. Each ring gets room for the largest there
/// is: QEMU asks for what its device was configured with, and some of its drivers use larger ones.
///
/// # Errors
/// When the operating system has no memory for it.
pub fn make(rings: u16, size: u16) -> io::Result<(VhostUserInflight, File)> {
    let bytes = (part(SIZE_MAX) * usize::from(rings)) as u64;
    // SAFETY: a constant name; the descriptor that comes back belongs to nobody else.
    let file = unsafe {
        let number = libc::memfd_create(c"denali-in-flight".as_ptr(), libc::MFD_CLOEXEC);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        <File as std::os::fd::FromRawFd>::from_raw_fd(number)
    };
    file.set_len(bytes)?;
    Ok((VhostUserInflight::new(bytes, 0, rings, size), file))
}

/// A region of the front end.
#[derive(Debug)]
pub struct Region {
    mapping: Arc<MmapRegion<()>>,
    rings: u16,
    /// Bytes of each ring's part.
    part: usize,
}

impl Region {
    /// Maps the region that the front end describes.
    ///
    /// # Errors
    /// When it is smaller than its rings need, or not in its file. A part may be larger than needed.
    pub fn map(described: &VhostUserInflight, file: File) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let rings = described.num_queues;
        let largest = part(SIZE_MAX);
        let size = usize::try_from(described.mmap_size).unwrap_or(usize::MAX);
        let room = size.checked_div(usize::from(rings)).unwrap_or(0).min(largest);
        let part = room / ALIGNMENT * ALIGNMENT;
        let needed = part * usize::from(rings);
        if part < self::part(described.queue_size).min(largest) || needed == 0 {
            return Err(invalid("the region for requests in flight is too small for its rings"));
        }
        let end = described.mmap_offset.checked_add(needed as u64);
        if end.is_none_or(|end| file.metadata().is_ok_and(|file| end > file.len())) {
            return Err(invalid("the region for requests in flight is larger than its file"));
        }
        let place = FileOffset::new(file, described.mmap_offset);
        let mapping = MmapRegion::from_file(place, needed).map_err(io::Error::other)?;
        Ok(Self { mapping: Arc::new(mapping), rings, part })
    }

    /// The account of one ring, if the region has room for it.
    #[must_use]
    pub fn ring(&self, index: u16, size: u16) -> Option<Account> {
        let fits = index < self.rings && part(size) <= self.part;
        fits.then(|| Account {
            mapping: Arc::clone(&self.mapping),
            start: self.part * usize::from(index),
            size,
            counter: 0,
        })
    }
}

/// The account of one ring's requests in flight.
#[derive(Debug)]
pub struct Account {
    mapping: Arc<MmapRegion<()>>,
    start: usize,
    size: u16,
    /// What the next request taken is numbered.
    counter: u64,
}

impl Account {
    /// Takes over: returns the requests that are still owed to the driver, oldest first, and the
    /// available index from which to go on. `used` is the used index in the ring. A fresh account owes
    /// nothing, and goes on at `base`.
    pub fn take_over(&mut self, used: u16, base: u16) -> (Vec<u16>, u16) {
        if self.load::<AtomicU16>(VERSION_AT) != VERSION
            || self.load::<AtomicU16>(DESCRIPTORS_AT) != self.size
        {
            self.begin(used);
            return (Vec::new(), base);
        }
        if self.load::<AtomicU16>(USED_INDEX_AT) != used {
            // The request last returned is in the used ring, but was not yet struck off.
            let head = self.load::<AtomicU16>(LAST_BATCH_HEAD_AT);
            self.strike_off(head);
            self.store::<AtomicU16>(USED_INDEX_AT, used);
        }
        let mut owed: Vec<(u64, u16)> = Vec::new();
        for head in 0..self.size {
            if self.load::<AtomicU8>(self.entry(head) + ENTRY_IN_FLIGHT) != 0 {
                owed.push((self.load::<AtomicU64>(self.entry(head) + ENTRY_COUNTER), head));
            }
        }
        owed.sort_unstable();
        self.counter = owed.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        let next = Wrapping(used) + Wrapping(owed.len() as u16);
        (owed.into_iter().map(|(_, head)| head).collect(), next.0)
    }

    fn begin(&mut self, used: u16) {
        for head in 0..self.size {
            self.store::<AtomicU8>(self.entry(head) + ENTRY_IN_FLIGHT, 0);
        }
        self.store::<AtomicU16>(USED_INDEX_AT, used);
        self.store::<AtomicU16>(DESCRIPTORS_AT, self.size);
        self.store::<AtomicU16>(VERSION_AT, VERSION);
    }

    fn entry(&self, head: u16) -> usize {
        HEADER + ENTRY * usize::from(head)
    }

    fn strike_off(&mut self, head: u16) {
        if head < self.size {
            self.store::<AtomicU8>(self.entry(head) + ENTRY_IN_FLIGHT, 0);
        }
    }

    fn load<T: vm_memory::AtomicInteger>(&self, at: usize) -> T::V
    where
        T::V: AtomicAccess<A = T> + Default,
    {
        // The place is inside the mapping by construction, and aligned; the fallback is never used.
        let slice = self.mapping.as_volatile_slice();
        slice.load(self.start + at, Ordering::Acquire).unwrap_or_default()
    }

    fn store<T: vm_memory::AtomicInteger>(&self, at: usize, value: T::V)
    where
        T::V: AtomicAccess<A = T>,
    {
        let slice = self.mapping.as_volatile_slice();
        let stored = slice.store(value, self.start + at, Ordering::Release);
        debug_assert!(stored.is_ok(), "{stored:?}");
        // Nothing moves ahead of what a successor must find first.
        fence(Ordering::SeqCst);
    }
}

impl InFlight for Account {
    fn taken(&mut self, head: u16) {
        if head < self.size {
            self.store::<AtomicU64>(self.entry(head) + ENTRY_COUNTER, self.counter);
            self.counter = self.counter.wrapping_add(1);
            self.store::<AtomicU8>(self.entry(head) + ENTRY_IN_FLIGHT, 1);
        }
    }

    fn put_back(&mut self, head: u16) {
        self.strike_off(head);
    }

    fn returning(&mut self, head: u16) {
        self.store::<AtomicU16>(LAST_BATCH_HEAD_AT, head);
    }

    fn returned(&mut self, head: u16, used: u16) {
        self.strike_off(head);
        self.store::<AtomicU16>(USED_INDEX_AT, used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(region: &Region) -> Account {
        region.ring(0, 8).unwrap()
    }

    fn region() -> Region {
        let (described, file) = make(1, 8).unwrap();
        Region::map(&described, file).unwrap()
    }

    #[test]
    fn a_fresh_account_owes_nothing() {
        let region = region();
        assert_eq!(account(&region).take_over(3, 7), (vec![], 7));
    }

    #[test]
    fn what_was_taken_and_not_returned_is_owed_in_order() {
        let region = region();
        let mut first = account(&region);
        first.take_over(0, 0);
        for head in [5, 2, 7] {
            first.taken(head);
        }
        first.returning(2);
        first.returned(2, 1);
        assert_eq!(account(&region).take_over(1, 0), (vec![5, 7], 3));
    }

    #[test]
    fn a_crash_between_the_used_ring_and_the_account_returns_nothing_twice() {
        let region = region();
        let mut first = account(&region);
        first.take_over(0, 0);
        first.taken(4);
        first.taken(1);
        // The used ring was written before the crash, …
        first.returning(4);
        assert_eq!(account(&region).take_over(1, 0), (vec![1], 2));
        // … or it was not.
        let mut second = account(&region);
        second.take_over(1, 0);
        second.returning(1);
        assert_eq!(account(&region).take_over(1, 0), (vec![1], 2));
    }

    #[test]
    fn nonsense_in_the_region_stays_inside_it() {
        let region = region();
        let bytes = [0xff; 16 + 8 * 16];
        region.mapping.as_volatile_slice().write_slice(&bytes, 0).unwrap();
        let mut account = account(&region);
        account.store::<AtomicU16>(VERSION_AT, VERSION);
        account.store::<AtomicU16>(DESCRIPTORS_AT, 8);
        let (owed, next) = account.take_over(0xfffe, 0);
        assert_eq!((owed.len(), next), (8, 6));
        account.returning(900);
        account.returned(900, 5);
    }

    #[test]
    fn regions_too_small_are_refused() {
        let (mut described, file) = make(1, 8).unwrap();
        described.mmap_size = 128;
        assert!(Region::map(&described, file).is_err());
        let (mut described, file) = make(1, 8).unwrap();
        described.num_queues = 2;
        described.mmap_size *= 2;
        assert!(Region::map(&described, file).is_err());
        let (mut described, file) = make(1, 8).unwrap();
        described.mmap_offset = u64::MAX;
        assert!(Region::map(&described, file).is_err());
        assert!(self::region().ring(1, 8).is_none());
        assert!(self::region().ring(0, SIZE_MAX).is_some());
        assert!(self::region().ring(0, 2 * SIZE_MAX).is_none());
    }
}
