//! One virtqueue as a device uses it: take validated chains, return them, decide about interrupts.

use super::chain::{Chain, Direction};
use std::sync::atomic::{Ordering, fence};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// Flag in the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;

/// What is wrong with a queue; the guest's doing, and the guest's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Its size is not a power of two, or is above the queue's maximum.
    #[error("queue size")]
    Size,
    /// A ring or table is misaligned or not in memory the guest may use so.
    #[error("ring address")]
    RingAddress,
    /// More chains are said to be available than there are entries.
    #[error("available index")]
    AvailableIndex,
    /// A descriptor index is outside its table.
    #[error("descriptor index")]
    DescriptorIndex,
    /// A chain is longer than the queue (so it may loop), or than 4 GiB.
    #[error("chain too long")]
    ChainTooLong,
    /// An indirect table is nested, chained, of an odd length, or was not agreed on.
    #[error("indirect table")]
    Indirect,
    /// A buffer is for the driver to write where the device would, or the other way round.
    #[error("buffer direction")]
    WrongDirection,
    /// A buffer is not in memory the guest may use so.
    #[error("buffer address")]
    OutOfRange,
}

/// What the driver has written about a queue, not yet believed.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSetup {
    pub size: u32,
    pub ready: bool,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// A queue that a device works on.
#[derive(Debug)]
pub struct DeviceQueue {
    queue: Queue,
    ready: bool,
    event_idx: bool,
    indirect: bool,
    /// Chains returned since the driver was last thought of.
    returned: bool,
}

impl DeviceQueue {
    /// A queue the driver does not use.
    #[must_use]
    pub fn unused() -> Self {
        Self {
            queue: Queue::default(),
            ready: false,
            event_idx: false,
            indirect: false,
            returned: false,
        }
    }

    /// The queue a driver has set up, with every address checked.
    pub(super) fn new<M: GuestMemory>(
        memory: &M,
        size_max: u16,
        setup: &QueueSetup,
        features: u64,
    ) -> Result<Self, QueueError> {
        if !setup.ready {
            return Ok(Self::unused());
        }
        let size = u16::try_from(setup.size).map_err(|_| QueueError::Size)?;
        let mut queue = Queue::new(size_max).map_err(|_| QueueError::Size)?;
        queue.try_set_size(size).map_err(|_| QueueError::Size)?;
        let address = |_| QueueError::RingAddress;
        queue.try_set_desc_table_address(GuestAddress(setup.descriptors)).map_err(address)?;
        queue.try_set_avail_ring_address(GuestAddress(setup.available)).map_err(address)?;
        queue.try_set_used_ring_address(GuestAddress(setup.used)).map_err(address)?;
        let event_idx = features & denali_abi::virtio::FEATURE_EVENT_IDX != 0;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        if setup.available == 0 || !queue.is_valid(memory) {
            return Err(QueueError::RingAddress);
        }
        let indirect = features & denali_abi::virtio::FEATURE_INDIRECT_DESC != 0;
        Ok(Self { queue, ready: true, event_idx, indirect, returned: false })
    }

    /// A queue that someone else has set up and keeps between uses, such as a vhost-user back end, with
    /// the features that were agreed on. Nothing is believed: every access to its rings is checked.
    #[must_use]
    pub fn from_queue(mut queue: Queue, features: u64) -> Self {
        let event_idx = features & denali_abi::virtio::FEATURE_EVENT_IDX != 0;
        let indirect = features & denali_abi::virtio::FEATURE_INDIRECT_DESC != 0;
        queue.set_event_idx(event_idx);
        let ready = queue.ready() && queue.size() > 0;
        Self { queue, ready, event_idx, indirect, returned: false }
    }

    /// The queue as its keeper wants it back, with the positions reached.
    #[must_use]
    pub fn into_queue(self) -> Queue {
        self.queue
    }

    /// Entries; 0 where the driver does not use the queue.
    #[must_use]
    pub fn size(&self) -> u16 {
        if self.ready { self.queue.size() } else { 0 }
    }

    /// Guest addresses of the descriptor table, the available ring and the used ring.
    #[must_use]
    pub fn addresses(&self) -> [u64; 3] {
        [self.queue.desc_table(), self.queue.avail_ring(), self.queue.used_ring()]
    }

    /// Where in the available ring the next chain is taken from, modulo 65,536.
    #[must_use]
    pub fn next_available(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Where in the used ring the next chain is returned, modulo 65,536.
    #[must_use]
    pub fn next_used(&self) -> u16 {
        self.queue.next_used()
    }

    /// The driver uses this queue.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Whether the driver has made chains available. One read of guest memory.
    ///
    /// # Errors
    /// When the ring is malformed.
    pub fn has_available<M: GuestMemory>(&self, memory: &M) -> Result<bool, QueueError> {
        if !self.ready {
            return Ok(false);
        }
        let index = self.queue.avail_idx(memory, Ordering::Acquire);
        let index = index.map_err(|_| QueueError::RingAddress)?.0;
        Ok(index != self.queue.next_avail())
    }

    /// Takes the next available chain into `chain`, validated whole; false when there is none.
    ///
    /// # Errors
    /// When the ring or the chain is malformed.
    pub fn take<M: GuestMemory>(
        &mut self,
        memory: &M,
        direction: Direction,
        chain: &mut Chain,
    ) -> Result<bool, QueueError> {
        if !self.has_available(memory)? {
            return Ok(false);
        }
        let mut available = self.queue.iter(memory).map_err(|_| QueueError::AvailableIndex)?;
        let head = available.next().ok_or(QueueError::RingAddress)?.head_index();
        let table = GuestAddress(self.queue.desc_table());
        chain.walk(memory, table, self.queue.size(), head, direction, self.indirect)?;
        Ok(true)
    }

    /// Undoes the last [`DeviceQueue::take`], whose chain will be taken again.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver, with the number of bytes written into it.
    ///
    /// # Errors
    /// When the used ring cannot be written.
    pub fn give_back<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        written: u32,
    ) -> Result<(), QueueError> {
        self.returned = true;
        self.queue.add_used(memory, head, written).map_err(|_| QueueError::RingAddress)
    }

    /// Whether the driver wants an interrupt for what was returned since this was last asked.
    ///
    /// # Errors
    /// When the available ring cannot be read.
    pub fn wants_interrupt<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, QueueError> {
        if !std::mem::take(&mut self.returned) {
            return Ok(false);
        }
        if self.event_idx {
            return self.queue.needs_notification(memory).map_err(|_| QueueError::RingAddress);
        }
        // The used index must be visible before the flags are read: the driver does the opposite.
        fence(Ordering::SeqCst);
        let ring = GuestAddress(self.queue.avail_ring());
        let flags: u16 =
            memory.load(ring, Ordering::Relaxed).map_err(|_| QueueError::RingAddress)?;
        Ok(u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify when it makes more chains available; true when it has done so
    /// already, and may not notify of those.
    ///
    /// # Errors
    /// When the rings cannot be accessed.
    pub fn ask_for_notification<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, QueueError> {
        self.queue.enable_notification(memory).map_err(|_| QueueError::RingAddress)
    }

    /// Tells the driver that it need not notify.
    ///
    /// # Errors
    /// When the used ring cannot be written.
    pub fn decline_notification<M: GuestMemory>(&mut self, memory: &M) -> Result<(), QueueError> {
        self.queue.disable_notification(memory).map_err(|_| QueueError::RingAddress)
    }
}
