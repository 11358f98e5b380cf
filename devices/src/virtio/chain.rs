//! Descriptor chains: walked and validated whole, once, before a byte of a buffer is touched.

use super::queue::QueueError;
use std::ops::Range;
use virtio_queue::desc::split::Descriptor;
use vm_memory::bitmap::BS;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

/// Bytes of a descriptor in guest memory.
const DESCRIPTOR_SIZE: u64 = 16;

/// Which way the buffers of a chain must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The driver gives data: every buffer is for the device to read.
    FromDriver,
    /// The driver wants data: every buffer is for the device to write.
    ToDriver,
    /// First the buffers for the device to read, then those for it to write (virtio 1.2, section
    /// 2.7.4.2); there may be none of either.
    Mixed,
}

impl Direction {
    /// Whether a buffer may be in the given part, after buffers of part `last`.
    fn allows(self, part: Part, last: Part) -> bool {
        match self {
            Self::FromDriver => part == Part::Readable,
            Self::ToDriver => part == Part::Writable,
            Self::Mixed => part >= last,
        }
    }
}

/// The two parts of a chain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Buffers for the device to read.
    Readable,
    /// Buffers for the device to write.
    Writable,
}

/// The buffers of one validated chain. Kept between chains so that nothing is allocated per chain.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    /// Bytes of the readable part.
    readable: usize,
    /// Bytes of the writable part.
    writable: usize,
    /// The readable part's buffers, then the writable part's.
    segments: Vec<(GuestAddress, usize)>,
    /// How many segments are readable.
    split: usize,
}

/// A piece of guest memory where the host has mapped it, laid out like the kernel's `iovec`.
///
/// Plain numbers, so that it can be kept while a request is in flight. Whoever keeps it must see to it
/// that the memory stays mapped; a dirty bitmap does not learn of writes through it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSlice {
    /// Host address of its first byte.
    pub address: usize,
    /// Bytes.
    pub length: usize,
}

impl HostSlice {
    /// Copies its first bytes into `bytes`, as far as both reach.
    ///
    /// # Safety
    /// It is mapped. Others may change it meanwhile.
    pub unsafe fn copy_to(self, bytes: &mut [u8]) {
        // SAFETY: mapped, as the caller promises; `VolatileSlice` is made for memory that others change.
        unsafe { VolatileSlice::new(self.address as *mut u8, self.length) }.copy_to(bytes);
    }

    /// Copies `bytes` into it, as far as both reach.
    ///
    /// # Safety
    /// It is mapped and writable. Others may change it meanwhile.
    pub unsafe fn copy_from(self, bytes: &[u8]) {
        // SAFETY: as above.
        unsafe { VolatileSlice::new(self.address as *mut u8, self.length) }.copy_from(bytes);
    }
}

/// A table of descriptors in guest memory: the queue's own, or an indirect one.
#[derive(Clone, Copy)]
struct Table {
    address: GuestAddress,
    entries: u16,
}

impl Table {
    fn read<M: GuestMemory>(self, memory: &M, index: u16) -> Result<Descriptor, QueueError> {
        if index >= self.entries {
            return Err(QueueError::DescriptorIndex);
        }
        let address = self.address.checked_add(u64::from(index) * DESCRIPTOR_SIZE);
        let address = address.ok_or(QueueError::OutOfRange)?;
        memory.read_obj(address).map_err(|_| QueueError::OutOfRange)
    }
}

impl Chain {
    /// A chain with no buffers, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The descriptor index by which the chain is returned to the driver.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes of all its buffers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.readable + self.writable
    }

    /// Bytes of the buffers of one part.
    #[must_use]
    pub fn total_of(&self, part: Part) -> usize {
        match part {
            Part::Readable => self.readable,
            Part::Writable => self.writable,
        }
    }

    /// The buffers of one part that are not empty: guest address and bytes of each, checked.
    #[must_use]
    pub fn segments(&self, part: Part) -> &[(GuestAddress, usize)] {
        match part {
            Part::Readable => &self.segments[..self.split],
            Part::Writable => &self.segments[self.split..],
        }
    }

    /// Walks the chain that starts at `head` of the descriptor table `table`, which has `size`
    /// entries. No chain is longer than `size`, in an indirect table either.
    ///
    /// # Errors
    /// When it loops, is too long, leaves its table or guest memory, or has a buffer that goes the
    /// wrong way.
    pub fn walk<M: GuestMemory>(
        &mut self,
        memory: &M,
        table: GuestAddress,
        size: u16,
        head: u16,
        direction: Direction,
        indirect_allowed: bool,
    ) -> Result<(), QueueError> {
        self.head = head;
        (self.readable, self.writable, self.split) = (0, 0, 0);
        self.segments.clear();
        let table = Table { address: table, entries: size };
        let first = table.read(memory, head)?;
        if first.refers_to_indirect_table() {
            if !indirect_allowed || first.has_next() {
                return Err(QueueError::Indirect);
            }
            let table = indirect_table(&first)?;
            let first = table.read(memory, 0)?;
            return self.follow(memory, table, size, first, direction);
        }
        self.follow(memory, table, size, first, direction)
    }

    fn follow<M: GuestMemory>(
        &mut self,
        memory: &M,
        table: Table,
        longest: u16,
        first: Descriptor,
        direction: Direction,
    ) -> Result<(), QueueError> {
        let mut descriptor = first;
        let mut last = Part::Readable;
        for _ in 0..longest {
            let part = if descriptor.is_write_only() { Part::Writable } else { Part::Readable };
            if descriptor.refers_to_indirect_table() {
                return Err(QueueError::Indirect);
            }
            if !direction.allows(part, last) {
                return Err(QueueError::WrongDirection);
            }
            self.append(memory, &descriptor, part)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            last = part;
            descriptor = table.read(memory, descriptor.next())?;
        }
        Err(QueueError::ChainTooLong)
    }

    fn append<M: GuestMemory>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        part: Part,
    ) -> Result<(), QueueError> {
        let length = descriptor.len() as usize;
        if self.total() as u64 + length as u64 > u64::from(u32::MAX) {
            return Err(QueueError::ChainTooLong);
        }
        if length == 0 {
            return Ok(());
        }
        let access = match part {
            Part::Readable => Permissions::Read,
            Part::Writable => Permissions::Write,
        };
        if !memory.check_range(descriptor.addr(), length, access) {
            return Err(QueueError::OutOfRange);
        }
        self.segments.push((descriptor.addr(), length));
        match part {
            Part::Readable => {
                self.readable += length;
                self.split += 1;
            }
            Part::Writable => self.writable += length,
        }
        Ok(())
    }

    /// Copies the first `into.len()` bytes of the readable part out of guest memory; the caller has
    /// seen that there are as many.
    ///
    /// # Errors
    /// When the part is shorter, or the memory is not there after all.
    pub fn read<M: GuestMemory>(&self, memory: &M, into: &mut [u8]) -> Result<(), QueueError> {
        self.read_at(memory, 0, into)
    }

    /// The same, from `offset` bytes after the start of the readable part.
    ///
    /// # Errors
    /// As [`Chain::read`].
    pub fn read_at<M: GuestMemory>(
        &self,
        memory: &M,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), QueueError> {
        let range = range_of(offset, into.len())?;
        let mut rest = into;
        self.pieces(Part::Readable, range, |address, length| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            rest = later;
            memory.read_slice(now, address).map_err(|_| QueueError::OutOfRange)
        })
    }

    /// Copies `bytes` into the buffers of the writable part, `offset` bytes from their start.
    ///
    /// # Errors
    /// When the part is shorter, or the memory is not there after all.
    pub fn write<M: GuestMemory>(
        &self,
        memory: &M,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), QueueError> {
        let range = range_of(offset, bytes.len())?;
        let mut rest = bytes;
        self.pieces(Part::Writable, range, |address, length| {
            let (now, later) = rest.split_at(length);
            rest = later;
            memory.write_slice(now, address).map_err(|_| QueueError::OutOfRange)
        })
    }

    /// Hands `each` the given bytes of a part as slices of host memory, in their order.
    ///
    /// # Errors
    /// When the part is shorter, or the memory is not there after all.
    pub fn slices<'a, M: GuestMemory>(
        &self,
        memory: &'a M,
        part: Part,
        bytes: Range<usize>,
        mut each: impl FnMut(VolatileSlice<'a, BS<'a, M::Bitmap>>),
    ) -> Result<(), QueueError> {
        let access = match part {
            Part::Readable => Permissions::Read,
            Part::Writable => Permissions::Write,
        };
        self.pieces(part, bytes, |address, length| {
            let slices = memory.get_slices(address, length, access);
            for slice in slices.map_err(|_| QueueError::OutOfRange)? {
                each(slice.map_err(|_| QueueError::OutOfRange)?);
            }
            Ok(())
        })
    }

    /// Appends the given bytes of a part to `into`, as system calls take them; neighbours are merged.
    ///
    /// # Errors
    /// As [`Chain::slices`].
    pub fn host_slices<M: GuestMemory>(
        &self,
        memory: &M,
        part: Part,
        bytes: Range<usize>,
        into: &mut Vec<HostSlice>,
    ) -> Result<(), QueueError> {
        let start = into.len();
        self.slices(memory, part, bytes, |slice| {
            let address = slice.ptr_guard_mut().as_ptr() as usize;
            match into[start..].last_mut() {
                Some(last) if last.address + last.length == address => last.length += slice.len(),
                _ => into.push(HostSlice { address, length: slice.len() }),
            }
        })
    }

    /// Hands `each` the guest addresses and lengths of the given bytes of a part.
    fn pieces(
        &self,
        part: Part,
        bytes: Range<usize>,
        mut each: impl FnMut(GuestAddress, usize) -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        if bytes.end > self.total_of(part) {
            return Err(QueueError::OutOfRange);
        }
        let mut skip = bytes.start;
        let mut left = bytes.len();
        for &(address, length) in self.segments(part) {
            if left == 0 {
                break;
            }
            if skip >= length {
                skip -= length;
                continue;
            }
            let now = (length - skip).min(left);
            let at = address.checked_add(skip as u64).ok_or(QueueError::OutOfRange)?;
            each(at, now)?;
            left -= now;
            skip = 0;
        }
        Ok(())
    }
}

fn range_of(offset: usize, length: usize) -> Result<Range<usize>, QueueError> {
    let end = offset.checked_add(length).ok_or(QueueError::OutOfRange)?;
    Ok(offset..end)
}

/// The table an indirect descriptor names. It may have more entries than a chain may have buffers.
fn indirect_table(descriptor: &Descriptor) -> Result<Table, QueueError> {
    let length = u64::from(descriptor.len());
    let entries = length / DESCRIPTOR_SIZE;
    if length % DESCRIPTOR_SIZE != 0 || entries == 0 {
        return Err(QueueError::Indirect);
    }
    let entries = u16::try_from(entries).unwrap_or(u16::MAX);
    Ok(Table { address: descriptor.addr(), entries })
}
