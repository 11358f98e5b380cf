//! A split virtqueue, driver's side, for requests of three parts: what the device reads first, a buffer of
//! someone else's, and a byte of status that the device writes last.
//!
//! Each request has a place of its own for the parts that are always there, so that making one allocates
//! nothing. Where the device takes indirect descriptors, a request takes one entry of the queue.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Most entries of a queue; a power of two.
pub(crate) const ENTRIES: usize = 256;
/// Most segments a buffer is cut into where descriptors are indirect.
pub(crate) const SEGMENTS: usize = 6;
/// Bytes of what the device reads first.
pub(crate) const HEADER: usize = 32;
/// Descriptors of a request where they are not indirect: header, one segment, status.
const DIRECT: usize = 3;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A status that no device writes.
const NO_STATUS: u8 = 0xff;

#[repr(C, align(16))]
struct Descriptor {
    address: AtomicU64,
    len: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

impl Descriptor {
    fn set(&self, address: u64, len: u32, flags: u16, next: u16) {
        self.address.store(address, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
        self.next.store(next, Ordering::Relaxed);
    }
}

#[repr(C)]
struct AvailableRing {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [AtomicU16; ENTRIES],
    used_event: AtomicU16,
}

#[repr(C)]
struct UsedElement {
    id: AtomicU32,
    len: AtomicU32,
}

#[repr(C, align(4))]
struct UsedRing {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [UsedElement; ENTRIES],
    available_event: AtomicU16,
}

/// The place of one request.
#[repr(C, align(64))]
struct Place {
    table: [Descriptor; SEGMENTS + 2],
    header: [AtomicU8; HEADER],
    status: AtomicU8,
}

/// The memory of a queue that the device sees; valid when all zero. Only what is used is ever touched.
#[repr(C, align(4096))]
pub(crate) struct Memory {
    descriptors: [Descriptor; ENTRIES],
    available: AvailableRing,
    used: UsedRing,
    places: [Place; ENTRIES],
}

impl Memory {
    /// Memory for one queue, for good, from pages that were never touched.
    pub(crate) fn fresh() -> Option<&'static Self> {
        let slack = align_of::<Self>();
        let bytes = crate::memory::fresh(size_of::<Self>() + slack - 1)?;
        let address = bytes.as_mut_ptr();
        // SAFETY: the place is inside the bytes, which are this function's alone, for good, and zero; it is
        // aligned; the type is made of atomic integers, for which all-zero is valid.
        Some(unsafe { &*address.add(address.align_offset(slack)).cast::<Self>() })
    }

    /// Addresses of descriptor table, available ring and used ring, for the device's registers.
    pub(crate) fn addresses(&self) -> [u64; 3] {
        [
            (&raw const self.descriptors) as u64,
            (&raw const self.available) as u64,
            (&raw const self.used) as u64,
        ]
    }
}

/// A buffer as a request refers to it: plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// Its address.
    pub(crate) address: u64,
    /// Its bytes; 0 = the request has no buffer.
    pub(crate) len: usize,
    /// The device writes it.
    pub(crate) write: bool,
}

/// The driver's end of a queue.
pub(crate) struct RequestQueue {
    memory: &'static Memory,
    entries: usize,
    indirect: bool,
    /// Most bytes of a segment.
    segment: usize,
    /// The driver's own count of what it made available.
    available: u16,
    /// The driver's own count of requests it has taken back.
    taken: u16,
}

impl RequestQueue {
    /// A queue of `entries`, a power of two and at most [`ENTRIES`], over fresh memory, whose device takes
    /// segments of at most `segment` bytes.
    pub(crate) fn new(
        memory: &'static Memory,
        entries: usize,
        indirect: bool,
        segment: usize,
    ) -> Self {
        Self {
            memory,
            entries: entries.min(ENTRIES),
            indirect,
            segment: segment.max(1),
            available: 0,
            taken: 0,
        }
    }

    /// How many requests the device can have at a time. They are numbered from 0.
    pub(crate) fn requests_max(&self) -> usize {
        if self.indirect { self.entries } else { self.entries / DIRECT }
    }

    /// Most bytes of a request's buffer.
    pub(crate) fn data_max(&self) -> usize {
        self.segment.saturating_mul(if self.indirect { SEGMENTS } else { 1 })
    }

    /// Gives the device request `id`, which it does not have, with `header` (at most [`HEADER`] bytes) and
    /// `data` (at most [`RequestQueue::data_max`] bytes).
    ///
    /// # Safety
    /// The data is there, and nobody else touches it, until [`RequestQueue::take_used`] has returned `id`.
    pub(crate) unsafe fn give(&mut self, id: u16, header: &[u8], data: Data) {
        let place = &self.memory.places[usize::from(id)];
        for (byte, value) in place.header.iter().zip(header) {
            byte.store(*value, Ordering::Relaxed);
        }
        place.status.store(NO_STATUS, Ordering::Relaxed);
        let (table, first) = if self.indirect {
            (&place.table[..], 0)
        } else {
            (&self.memory.descriptors[..], DIRECT as u16 * id)
        };
        let descriptors = self.describe(place, table, first, header.len(), data);
        let head = if self.indirect {
            let address = (&raw const place.table) as u64;
            let bytes = descriptors * size_of::<Descriptor>();
            self.memory.descriptors[usize::from(id)].set(address, bytes as u32, INDIRECT, 0);
            id
        } else {
            first
        };
        let ring = &self.memory.available;
        ring.ring[usize::from(self.available) % self.entries].store(head, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        ring.index.store(self.available, Ordering::Release);
        super::note_given();
    }

    /// Fills the descriptors of a request from `first` on; returns how many those are.
    fn describe(
        &self,
        place: &Place,
        table: &[Descriptor],
        first: u16,
        header: usize,
        data: Data,
    ) -> usize {
        let mut next = first;
        let mut append = |address: u64, len: usize, flags: u16| {
            table[usize::from(next)].set(address, len as u32, flags, next + 1);
            next += 1;
        };
        append((&raw const place.header) as u64, header, NEXT);
        let flags = if data.write { NEXT | WRITE } else { NEXT };
        let mut done = 0;
        while done < data.len.min(self.data_max()) {
            let len = (data.len - done).min(self.segment);
            append(data.address + done as u64, len, flags);
            done += len;
        }
        append((&raw const place.status) as u64, 1, WRITE);
        usize::from(next - first)
    }

    /// Takes back the next request the device is done with: its number and status.
    pub(crate) fn take_used(&mut self) -> Option<(u16, u8)> {
        while self.memory.used.index.load(Ordering::Acquire) != self.taken {
            let element = &self.memory.used.ring[usize::from(self.taken) % self.entries];
            let head = element.id.load(Ordering::Relaxed) as usize;
            self.taken = self.taken.wrapping_add(1);
            let id = if self.indirect { head } else { head / DIRECT };
            // A device that names a request which does not exist is not to be relied on further, but must
            // not make this driver reach outside its memory.
            if id < self.requests_max() {
                return Some((id as u16, self.memory.places[id].status.load(Ordering::Relaxed)));
            }
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec::Vec;

    /// A device's end of the queue, for tests of drivers.
    pub(crate) struct FakeDevice {
        memory: &'static Memory,
        entries: usize,
        seen: u16,
        used: u16,
    }

    /// Address, bytes, and whether the device may write.
    type Piece = (u64, usize, bool);

    /// What a device finds in a chain.
    pub(crate) struct Found {
        pub(crate) head: u16,
        pub(crate) header: Vec<u8>,
        pub(crate) data: Vec<Piece>,
        status: u64,
    }

    fn slice(address: u64, len: usize) -> &'static mut [u8] {
        // SAFETY: the driver under test gave this memory, and does not touch it before it is returned.
        unsafe { core::slice::from_raw_parts_mut(address as *mut u8, len) }
    }

    impl Found {
        /// The data's bytes in order.
        pub(crate) fn bytes(&self) -> impl Iterator<Item = &'static mut u8> {
            self.data.iter().flat_map(|&(address, len, _)| slice(address, len).iter_mut())
        }
    }

    impl FakeDevice {
        pub(crate) fn new(memory: &'static Memory, entries: usize) -> Self {
            Self { memory, entries, seen: 0, used: 0 }
        }

        /// The next available request.
        pub(crate) fn next(&mut self) -> Option<Found> {
            let ring = &self.memory.available;
            if ring.index.load(Ordering::Acquire) == self.seen {
                return None;
            }
            let slot = usize::from(self.seen) % self.entries;
            let head = ring.ring[slot].load(Ordering::Relaxed);
            self.seen = self.seen.wrapping_add(1);
            let mut pieces = self.follow(head);
            let (header, len, writable) = pieces.remove(0);
            assert!(!writable);
            let (status, 1, true) = pieces.pop().unwrap() else { panic!("no status") };
            Some(Found { head, header: slice(header, len).to_vec(), data: pieces, status })
        }

        fn follow(&self, head: u16) -> Vec<Piece> {
            let mut table = &self.memory.descriptors[..];
            let mut index = usize::from(head);
            let mut left = self.entries;
            if table[index].flags.load(Ordering::Relaxed) == INDIRECT {
                let address = table[index].address.load(Ordering::Relaxed);
                left = table[index].len.load(Ordering::Relaxed) as usize / size_of::<Descriptor>();
                // SAFETY: the driver says that there are so many descriptors.
                table = unsafe { core::slice::from_raw_parts(address as *const Descriptor, left) };
                index = 0;
            }
            let mut pieces = Vec::new();
            loop {
                let descriptor = &table[index];
                let flags = descriptor.flags.load(Ordering::Relaxed);
                let len = descriptor.len.load(Ordering::Relaxed) as usize;
                let address = descriptor.address.load(Ordering::Relaxed);
                pieces.push((address, len, flags & WRITE != 0));
                left -= 1;
                if flags & NEXT == 0 {
                    return pieces;
                }
                assert!(left > 0);
                index = usize::from(descriptor.next.load(Ordering::Relaxed));
            }
        }

        /// Gives a request back.
        pub(crate) fn finish(&mut self, found: &Found, status: u8) {
            slice(found.status, 1)[0] = status;
            self.finish_head(u32::from(found.head));
        }

        pub(crate) fn finish_head(&mut self, head: u32) {
            let element = &self.memory.used.ring[usize::from(self.used) % self.entries];
            element.id.store(head, Ordering::Relaxed);
            self.used = self.used.wrapping_add(1);
            self.memory.used.index.store(self.used, Ordering::Release);
        }
    }

    fn queue(entries: usize, indirect: bool) -> (RequestQueue, FakeDevice) {
        let memory = Memory::fresh().unwrap();
        (RequestQueue::new(memory, entries, indirect, 1000), FakeDevice::new(memory, entries))
    }

    #[test]
    fn the_device_finds_what_was_given() {
        for (indirect, len, pieces) in [(true, 2500, 3), (false, 700, 1), (true, 0, 0)] {
            let (mut queue, mut device) = queue(8, indirect);
            let mut bytes = std::vec![7_u8; len];
            let data = Data { address: bytes.as_mut_ptr() as u64, len, write: true };
            // SAFETY: the bytes outlive the test.
            unsafe { queue.give(1, b"header", data) };
            let found = device.next().unwrap();
            assert!(device.next().is_none() && queue.take_used().is_none());
            assert_eq!((found.header.as_slice(), found.data.len()), (&b"header"[..], pieces));
            assert_eq!(found.bytes().filter(|byte| **byte == 7).count(), len);
            found.bytes().for_each(|byte| *byte = 9);
            device.finish(&found, 3);
            assert_eq!(queue.take_used(), Some((1, 3)));
            assert!(bytes.iter().all(|&byte| byte == 9));
        }
    }

    #[test]
    fn requests_come_back_in_any_order_for_ever() {
        let (mut queue, mut device) = queue(8, true);
        let none = Data { address: 0, len: 0, write: false };
        for round in 0..20_000_u32 {
            for id in 0..8 {
                // SAFETY: there is no data.
                unsafe { queue.give(id, &round.to_le_bytes(), none) };
            }
            let mut found: Vec<Found> = core::iter::from_fn(|| device.next()).collect();
            assert!(found.iter().all(|found| found.header == round.to_le_bytes()));
            found.rotate_left(round as usize % 8);
            for request in &found {
                device.finish(request, round as u8);
            }
            for request in &found {
                assert_eq!(queue.take_used(), Some((request.head, round as u8)));
            }
        }
    }

    #[test]
    fn a_request_that_does_not_exist_is_passed_over() {
        let (mut queue, mut device) = queue(8, false);
        assert_eq!(queue.requests_max(), 2);
        for head in [6, 8, u32::MAX] {
            device.finish_head(head);
        }
        assert_eq!(queue.take_used(), None);
    }
}
