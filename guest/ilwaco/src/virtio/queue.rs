//! A split virtqueue, driver's side, whose descriptors each have a buffer of their own for good.
//!
//! The rings are made of atomic integers, because the device reads and writes them too; on x86 the
//! plain ones cost nothing.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Entries of a queue; a power of two.
pub(crate) const ENTRIES: usize = 64;

/// Descriptor flag: the device writes the buffer.
const WRITE: u16 = 2;

/// Flag of the available ring: no interrupt when buffers are used.
const NO_INTERRUPT: u16 = 1;

#[repr(C, align(16))]
struct Descriptor {
    address: AtomicU64,
    len: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
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

/// The memory of a queue that the device sees. Two of them fit one page.
#[repr(C)]
pub(crate) struct Rings {
    descriptors: [Descriptor; ENTRIES],
    available: AvailableRing,
    used: UsedRing,
}

const _: () = assert!(size_of::<Rings>() <= 2048);

impl Rings {
    /// Rings in which nothing was ever made available or used.
    pub(crate) const fn new() -> Self {
        Self {
            descriptors: [const {
                Descriptor {
                    address: AtomicU64::new(0),
                    len: AtomicU32::new(0),
                    flags: AtomicU16::new(0),
                    next: AtomicU16::new(0),
                }
            }; ENTRIES],
            available: AvailableRing {
                flags: AtomicU16::new(0),
                index: AtomicU16::new(0),
                ring: [const { AtomicU16::new(0) }; ENTRIES],
                used_event: AtomicU16::new(0),
            },
            used: UsedRing {
                flags: AtomicU16::new(0),
                index: AtomicU16::new(0),
                ring: [const { UsedElement { id: AtomicU32::new(0), len: AtomicU32::new(0) } };
                    ENTRIES],
                available_event: AtomicU16::new(0),
            },
        }
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

/// How the memory of a queue is divided among its descriptors: the first ones get large buffers, the
/// others small ones. Buffers are neighbours, in the order of their descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Descriptors with large buffers, at most [`ENTRIES`].
    pub(crate) large: usize,
    /// Bytes of a large buffer.
    pub(crate) large_len: usize,
    /// Bytes of a small buffer.
    pub(crate) small_len: usize,
}

impl Layout {
    /// Buffers that are all alike.
    pub(crate) const fn uniform(len: usize) -> Self {
        Self { large: ENTRIES, large_len: len, small_len: 0 }
    }

    /// Bytes of all buffers.
    pub(crate) const fn bytes(&self) -> usize {
        self.large * self.large_len + (ENTRIES - self.large) * self.small_len
    }

    /// Start and length of a descriptor's buffer.
    const fn place(&self, id: usize) -> (usize, usize) {
        if id < self.large {
            (id * self.large_len, self.large_len)
        } else {
            (self.large * self.large_len + (id - self.large) * self.small_len, self.small_len)
        }
    }
}

/// The driver's end of a queue.
pub(crate) struct Queue {
    rings: &'static Rings,
    buffers: &'static mut [u8],
    layout: Layout,
    /// The driver's own count of what it made available.
    available: u16,
    /// The driver's own count of used buffers it has taken back.
    taken: u16,
}

impl Queue {
    /// A queue over `rings`, with `buffers` divided among its descriptors as `layout` says.
    pub(crate) fn new(rings: &'static Rings, buffers: &'static mut [u8], layout: Layout) -> Self {
        for (id, descriptor) in rings.descriptors.iter().enumerate() {
            let address = buffers[layout.place(id).0..].as_ptr() as u64;
            descriptor.address.store(address, Ordering::Relaxed);
        }
        Self { rings, buffers, layout, available: 0, taken: 0 }
    }

    /// How its memory is divided.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The buffer of descriptor `id`, which must not be with the device.
    pub(crate) fn buffer(&mut self, id: u16) -> &mut [u8] {
        let (start, len) = self.layout.place(usize::from(id));
        &mut self.buffers[start..start + len]
    }

    /// `len` bytes from the start of buffer `id` on, across the buffers that follow it, none of which
    /// may be with the device.
    pub(crate) fn across(&self, id: u16, len: usize) -> &[u8] {
        let (start, _) = self.layout.place(usize::from(id));
        &self.buffers[start..start + len]
    }

    /// Gives the device the first `len` bytes of buffer `id` to read.
    pub(crate) fn give_to_read(&mut self, id: u16, len: usize) {
        self.give(id, len, 0);
        super::note_given();
    }

    /// Gives the device buffer `id` to write.
    pub(crate) fn give_to_write(&mut self, id: u16) {
        self.give(id, self.layout.place(usize::from(id)).1, WRITE);
    }

    fn give(&mut self, id: u16, len: usize, flags: u16) {
        let descriptor = &self.rings.descriptors[usize::from(id)];
        descriptor.len.store(len as u32, Ordering::Relaxed);
        descriptor.flags.store(flags, Ordering::Relaxed);
        let ring = &self.rings.available;
        ring.ring[usize::from(self.available) % ENTRIES].store(id, Ordering::Relaxed);
        self.available = self.available.wrapping_add(1);
        ring.index.store(self.available, Ordering::Release);
    }

    /// Takes back the next buffer the device has used: its number and how many bytes were written.
    pub(crate) fn take_used(&mut self) -> Option<(u16, usize)> {
        while self.has_used() {
            let element = &self.rings.used.ring[usize::from(self.taken) % ENTRIES];
            let id = element.id.load(Ordering::Relaxed);
            let len = element.len.load(Ordering::Relaxed) as usize;
            self.taken = self.taken.wrapping_add(1);
            // A device that names a buffer which does not exist is not to be relied on further, but
            // must not make this driver reach outside its memory.
            if (id as usize) < ENTRIES {
                return Some((id as u16, len.min(self.layout.place(id as usize).1)));
            }
        }
        None
    }

    /// Whether the device has used a buffer that was not taken back yet.
    pub(crate) fn has_used(&self) -> bool {
        self.rings.used.index.load(Ordering::Acquire) != self.taken
    }

    /// Chooses whether the device interrupts when it has used a buffer.
    pub(crate) fn set_interrupts(&self, wanted: bool) {
        let flags = if wanted { 0 } else { NO_INTERRUPT };
        self.rings.available.flags.store(flags, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A device's end of the rings, for tests of drivers.
    pub(crate) struct FakeDevice {
        rings: &'static Rings,
        seen: u16,
        used: u16,
    }

    impl FakeDevice {
        pub(crate) fn new(rings: &'static Rings) -> Self {
            Self { rings, seen: 0, used: 0 }
        }

        /// The next available buffer: its number, and the bytes of it.
        pub(crate) fn next(&mut self) -> Option<(u16, &'static mut [u8])> {
            if self.rings.available.index.load(Ordering::Acquire) == self.seen {
                return None;
            }
            let id =
                self.rings.available.ring[usize::from(self.seen) % ENTRIES].load(Ordering::Relaxed);
            self.seen = self.seen.wrapping_add(1);
            let descriptor = &self.rings.descriptors[usize::from(id)];
            let address = descriptor.address.load(Ordering::Relaxed) as *mut u8;
            let len = descriptor.len.load(Ordering::Relaxed) as usize;
            // SAFETY: the driver under test gave this buffer, which lives for the whole test.
            Some((id, unsafe { core::slice::from_raw_parts_mut(address, len) }))
        }

        /// Gives a buffer back, `len` bytes of it written.
        pub(crate) fn finish(&mut self, id: u32, len: usize) {
            let element = &self.rings.used.ring[usize::from(self.used) % ENTRIES];
            element.id.store(id, Ordering::Relaxed);
            element.len.store(len as u32, Ordering::Relaxed);
            self.used = self.used.wrapping_add(1);
            self.rings.used.index.store(self.used, Ordering::Release);
        }
    }

    pub(crate) fn rings() -> &'static Rings {
        Box::leak(Box::new(Rings::new()))
    }

    #[test]
    fn buffers_go_round_many_times() {
        let rings = rings();
        let mut queue = Queue::new(rings, vec![0; ENTRIES * 128].leak(), Layout::uniform(128));
        let mut device = FakeDevice::new(rings);
        for round in 0..200_000_u32 {
            let id = (round % 7) as u16;
            queue.buffer(id)[..4].copy_from_slice(&round.to_le_bytes());
            queue.give_to_read(id, 4);
            let (seen, bytes) = device.next().unwrap();
            assert_eq!((seen, &bytes[..]), (id, &round.to_le_bytes()[..]));
            device.finish(u32::from(seen), 0);
            assert_eq!(queue.take_used(), Some((id, 0)));
            assert_eq!(queue.take_used(), None);
        }
    }

    #[test]
    fn a_lying_device_stays_within_bounds() {
        let rings = rings();
        let mut queue = Queue::new(rings, vec![0; ENTRIES * 128].leak(), Layout::uniform(128));
        let mut device = FakeDevice::new(rings);
        queue.give_to_write(0);
        device.finish(ENTRIES as u32, 5);
        device.finish(u32::MAX, 5);
        device.finish(3, 1 << 30);
        assert_eq!(queue.take_used(), Some((3, 128)));
        assert_eq!(queue.take_used(), None);
    }
}
