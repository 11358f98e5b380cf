//! Both rings of a queue as a bystander reads them: indices, entries, and whether a kick is wanted.

use denali_devices::virtio::{DeviceQueue, QueueError};
use std::sync::atomic::{Ordering, fence};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// Flag in the used ring: the device wants no notifications.
const NO_NOTIFY: u16 = 1;

/// Where the rings of a queue are. The addresses were validated when the queue was set up; every access
/// is checked again by the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rings {
    /// Entries of each.
    pub size: u16,
    /// Guest address of the available ring.
    pub available: u64,
    /// Guest address of the used ring.
    pub used: u64,
}

impl Rings {
    /// The rings of `queue`.
    pub(crate) fn of(queue: &DeviceQueue) -> Self {
        let [_, available, used] = queue.addresses();
        Self { size: queue.size(), available, used }
    }

    /// How many chains the driver has made available in all, modulo 2¹⁶.
    pub(crate) fn available_index<M: GuestMemory>(&self, memory: &M) -> Result<u16, QueueError> {
        load(memory, self.available + 2)
    }

    /// How many chains the back end has returned in all, modulo 2¹⁶.
    pub(crate) fn used_index<M: GuestMemory>(&self, memory: &M) -> Result<u16, QueueError> {
        load(memory, self.used + 2)
    }

    /// The head that was made available as number `index`.
    pub(crate) fn available_head<M: GuestMemory>(
        &self,
        memory: &M,
        index: u16,
    ) -> Result<u16, QueueError> {
        load(memory, self.available_entry(index))
    }

    /// Makes `head` the one that was made available as number `index`.
    pub(crate) fn replace_head<M: GuestMemory>(
        &self,
        memory: &M,
        index: u16,
        head: u16,
    ) -> Result<(), QueueError> {
        let at = GuestAddress(self.available_entry(index));
        memory.store(head.to_le(), at, Ordering::Relaxed).map_err(|_| QueueError::RingAddress)
    }

    /// The head that was returned as number `index`; whoever writes there may put anything.
    pub(crate) fn used_head<M: GuestMemory>(
        &self,
        memory: &M,
        index: u16,
    ) -> Result<u32, QueueError> {
        let at = self.used + 4 + 8 * u64::from(index % self.size.max(1));
        let head: u32 = memory
            .load(GuestAddress(at), Ordering::Relaxed)
            .map_err(|_| QueueError::RingAddress)?;
        Ok(u32::from_le(head))
    }

    /// Whether the back end wants to be told that the available index went from `old` to `new`.
    pub(crate) fn wants_kick<M: GuestMemory>(
        &self,
        memory: &M,
        event_idx: bool,
        (old, new): (u16, u16),
    ) -> Result<bool, QueueError> {
        // The driver's index must be visible before what the back end says of it is read: the back end
        // does the opposite.
        fence(Ordering::SeqCst);
        if event_idx {
            let event: u16 = load(memory, self.used + 4 + 8 * u64::from(self.size))?;
            return Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old));
        }
        let flags: u16 = load(memory, self.used)?;
        Ok(flags & NO_NOTIFY == 0)
    }

    fn available_entry(&self, index: u16) -> u64 {
        self.available + 4 + 2 * u64::from(index % self.size.max(1))
    }
}

fn load<M: GuestMemory>(memory: &M, address: u64) -> Result<u16, QueueError> {
    let value = memory.load(GuestAddress(address), Ordering::Acquire);
    value.map(u16::from_le).map_err(|_| QueueError::RingAddress)
}
