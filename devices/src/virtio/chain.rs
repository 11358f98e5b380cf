//! Descriptor chains: walked and validated whole, once, before a byte of a buffer is touched.

use super::queue::QueueError;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions};

/// Bytes of a descriptor in guest memory.
const DESCRIPTOR_SIZE: u64 = 16;

/// Which way the buffers of a chain must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The driver gives data: every buffer is for the device to read.
    FromDriver,
    /// The driver wants data: every buffer is for the device to write.
    ToDriver,
}

/// The buffers of one validated chain. Kept between chains so that nothing is allocated per chain.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    total: usize,
    segments: Vec<(GuestAddress, usize)>,
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
        self.total
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
        self.total = 0;
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
        for _ in 0..longest {
            self.append(memory, &descriptor, direction)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            descriptor = table.read(memory, descriptor.next())?;
        }
        Err(QueueError::ChainTooLong)
    }

    fn append<M: GuestMemory>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        direction: Direction,
    ) -> Result<(), QueueError> {
        if descriptor.refers_to_indirect_table() {
            return Err(QueueError::Indirect);
        }
        if descriptor.is_write_only() != (direction == Direction::ToDriver) {
            return Err(QueueError::WrongDirection);
        }
        let length = descriptor.len() as usize;
        let total = self.total as u64 + length as u64;
        if total > u64::from(u32::MAX) {
            return Err(QueueError::ChainTooLong);
        }
        let access = match direction {
            Direction::FromDriver => Permissions::Read,
            Direction::ToDriver => Permissions::Write,
        };
        if length > 0 {
            if !memory.check_range(descriptor.addr(), length, access) {
                return Err(QueueError::OutOfRange);
            }
            self.segments.push((descriptor.addr(), length));
        }
        self.total = total as usize;
        Ok(())
    }

    /// Copies the chain's first `into.len()` bytes out of guest memory; the caller has seen that
    /// there are as many.
    ///
    /// # Errors
    /// When the chain is shorter, or the memory is not there after all.
    pub fn read<M: GuestMemory>(&self, memory: &M, into: &mut [u8]) -> Result<(), QueueError> {
        let mut rest = into;
        for &(address, length) in &self.segments {
            if rest.is_empty() {
                break;
            }
            let now;
            (now, rest) = rest.split_at_mut(length.min(rest.len()));
            memory.read_slice(now, address).map_err(|_| QueueError::OutOfRange)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(QueueError::OutOfRange) }
    }

    /// Copies `bytes` into the chain's buffers, `offset` bytes from their start.
    ///
    /// # Errors
    /// When the chain is shorter, or the memory is not there after all.
    pub fn write<M: GuestMemory>(
        &self,
        memory: &M,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), QueueError> {
        let mut skip = offset;
        let mut rest = bytes;
        for &(address, length) in &self.segments {
            if skip >= length {
                skip -= length;
                continue;
            }
            let (now, later) = rest.split_at((length - skip).min(rest.len()));
            let at = address.checked_add(skip as u64).ok_or(QueueError::OutOfRange)?;
            memory.write_slice(now, at).map_err(|_| QueueError::OutOfRange)?;
            rest = later;
            skip = 0;
            if rest.is_empty() {
                break;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(QueueError::OutOfRange) }
    }
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
