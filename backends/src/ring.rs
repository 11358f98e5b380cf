//! One ring of a device: what the front end has said about it, and its eventfds.

use crate::in_flight::Region;
use crate::memory::Memory;
use denali_devices::virtio::DeviceQueue;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

/// Most entries of a ring. Front ends choose the size, and some take the largest that their own machine
/// has; what a device does at a time is bounded by itself.
pub const SIZE_MAX: u16 = 1024;

/// A ring, stopped or started.
#[derive(Debug, Default)]
pub struct Ring {
    /// Entries.
    pub size: u16,
    /// Guest addresses of descriptor table, available ring and used ring, once they are known.
    pub addresses: Option<[u64; 3]>,
    /// Where in the available ring to begin.
    pub base: u16,
    /// The front end wants the ring to be worked on.
    pub enabled: bool,
    /// It has been set going and not stopped since.
    pub started: bool,
    /// Signalled by the driver when there is work. Watched, never read.
    pub kick: Option<File>,
    /// Signalled by this side when requests are done.
    pub call: Option<File>,
    /// Signalled by this side when the ring is malformed.
    pub error: Option<File>,
}

impl Ring {
    /// Whether the device may work on it.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.started && self.enabled
    }

    /// The queue as the front end has described it, with what is still owed from before a crash.
    ///
    /// # Errors
    /// When it has not been described, or wrongly.
    pub fn queue(
        &self,
        index: u16,
        features: u64,
        memory: &Memory,
        in_flight: Option<&Region>,
    ) -> io::Result<DeviceQueue> {
        let wrong = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("ring {index} {what}"))
        };
        let addresses = self.addresses.ok_or_else(|| wrong("has no addresses"))?;
        let [descriptors, available, used] = addresses.map(GuestAddress);
        let mut queue = Queue::new(SIZE_MAX).map_err(|_| wrong("cannot be made"))?;
        let size = queue.try_set_size(self.size);
        size.map_err(|_| wrong("has a size that is no power of two up to 1,024"))?;
        let misaligned = |_| wrong("has a misaligned address");
        queue.try_set_desc_table_address(descriptors).map_err(misaligned)?;
        queue.try_set_avail_ring_address(available).map_err(misaligned)?;
        queue.try_set_used_ring_address(used).map_err(misaligned)?;
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(wrong("is not in guest memory"));
        }
        let used = queue.used_idx(memory, Ordering::Acquire);
        let used = used.map_err(|_| wrong("is not in guest memory"))?.0;
        queue.set_next_used(used);
        queue.set_next_avail(self.base);
        let account = match in_flight {
            Some(region) => {
                let account = region.ring(index, self.size);
                let account = account.ok_or_else(|| wrong("is not in the region for requests"))?;
                Some(account)
            }
            None => None,
        };
        let Some(mut account) = account else {
            return Ok(DeviceQueue::from_queue(queue, features));
        };
        let (owed, base) = account.take_over(used, self.base);
        queue.set_next_avail(base);
        let mut queue = DeviceQueue::from_queue(queue, features);
        queue.keep_account(Box::new(account), owed);
        Ok(queue)
    }

    /// Tells the driver that requests are done.
    pub fn interrupt(&self) {
        signal(self.call.as_ref());
    }

    /// Tells the front end that the ring is malformed.
    pub fn report(&self) {
        signal(self.error.as_ref());
    }
}

/// Adds one to an eventfd. A front end that has none polls; one whose eventfd cannot be written has
/// itself to blame.
fn signal(file: Option<&File>) {
    if let Some(mut file) = file {
        let _ = file.write(&1u64.to_ne_bytes());
    }
}
