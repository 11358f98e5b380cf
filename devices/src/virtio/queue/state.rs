//! A queue at rest: where it stands, and a queue that goes on from there.

use super::{DeviceQueue, QueueError, QueueSetup};
use std::sync::atomic::Ordering;
use virtio_queue::QueueT;
use vm_memory::GuestMemory;

impl DeviceQueue {
    /// Checks a queue of which no chain is outstanding against its rings, so that it can go on elsewhere
    /// from its [position](DeviceQueue::position).
    ///
    /// # Errors
    /// When the driver has broken the rings.
    pub(in crate::virtio) fn check_rings<M: GuestMemory>(
        &self,
        memory: &M,
    ) -> Result<(), QueueError> {
        let Some(position) = self.position() else { return Ok(()) };
        let used = self.queue.used_idx(memory, Ordering::Relaxed);
        if used.map_err(|_| QueueError::RingAddress)?.0 != position {
            return Err(QueueError::UsedIndex);
        }
        let available = self.queue.avail_idx(memory, Ordering::Acquire);
        let available = available.map_err(|_| QueueError::RingAddress)?.0;
        if available.wrapping_sub(position) > self.queue.size() {
            return Err(QueueError::AvailableIndex);
        }
        Ok(())
    }

    /// Chains that were taken and returned, modulo 65,536, while none is outstanding; `None` where the driver
    /// does not use the queue.
    pub(in crate::virtio) fn position(&self) -> Option<u16> {
        self.ready.then(|| self.queue.next_used())
    }

    /// The queue a driver has set up, which goes on from `position`, with every address checked, and the
    /// rings too. The driver knows of everything that was returned.
    pub(in crate::virtio) fn resume<M: GuestMemory>(
        memory: &M,
        size_max: u16,
        setup: &QueueSetup,
        features: u64,
        position: u16,
    ) -> Result<Self, QueueError> {
        let mut queue = Self::new(memory, size_max, setup, features)?;
        queue.queue.set_next_avail(position);
        queue.queue.set_next_used(position);
        queue.told_used = position;
        queue.check_rings(memory)?;
        Ok(queue)
    }
}
