//! What the transport asks of a device.

use super::queue::{DeviceQueue, QueueError};
use crate::state::{KindState, Misfit};
use vm_memory::GuestMemory;

/// A virtio device behind a transport.
///
/// Life: `activate` when the driver is ready, then `service` any number of times, then `reset`, and
/// so on; `idle` instead of `service` while there is no driver. At any time it may be saved, by `settle`
/// and then `save`, after which it goes on, or another does that was made like it: by `restore`, and
/// `activate` if there is a driver.
pub trait VirtioDevice<M: GuestMemory> {
    /// The virtio device type.
    fn kind(&self) -> u32;

    /// The feature bits of this kind of device; those of the transport and rings are added to them.
    fn features(&self) -> u64;

    /// Which of the features of transport and rings (`VERSION_1`, `INDIRECT_DESC`, `EVENT_IDX`) the
    /// device can do: all of them, unless it has others work on the rings.
    fn ring_features(&self) -> u64 {
        u64::MAX
    }

    /// Most entries of each queue, each a power of two; as many queues as there are numbers.
    fn queue_sizes(&self) -> &[u16];

    /// The configuration space.
    fn config(&self) -> &[u8];

    /// Whether each service brings the driver at most one thing from the outside (a frame, a completed
    /// request, a buffer of input), so that it hears of each by an interrupt of its own. What the driver
    /// gives is taken as before. A device that others work on, or that only answers, does not heed this.
    fn deliver_singly(&mut self, singly: bool) {
        let _ = singly;
    }

    /// The driver is ready and has agreed to `features`.
    fn activate(&mut self, features: u64);

    /// The driver is gone, or starts anew. The device touches guest memory no more when this returns,
    /// or as long as it is not [at rest](VirtioDevice::at_rest) afterwards; it waits for a bounded time.
    fn reset(&mut self);

    /// Nothing is under way that touches guest memory. A reset is complete for the driver only then.
    fn at_rest(&self) -> bool {
        true
    }

    /// Moves what there is between the queues and the back end, within a budget. `now_ns` is
    /// monotonic time.
    ///
    /// # Errors
    /// When a queue is malformed: the transport then leaves all of them alone until the next reset.
    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        now_ns: u64,
    ) -> Result<Progress, QueueError>;

    /// Lets the back end work while there is no driver.
    fn idle(&mut self, now_ns: u64);

    /// When it must be serviced next at the latest, in nanoseconds of monotonic time.
    fn deadline(&self) -> Option<u64>;

    /// Gives back memory that it keeps for what may come soon: nothing will for a while.
    fn tidy(&mut self) {}

    /// Why the device cannot be saved now, as what follows "the device"; `None` if nothing is in the way, but
    /// what [`VirtioDevice::settle`] brings to an end.
    fn busy(&mut self) -> Option<&'static str>;

    /// Completes what is under way, as far as that is possible in a bounded time, puts back what it has taken
    /// and not begun, and takes nothing new; there may be no queues. If it is not [at
    /// rest](VirtioDevice::at_rest) then, it is not saved.
    ///
    /// # Errors
    /// As [`VirtioDevice::service`].
    fn settle(&mut self, queues: &mut [DeviceQueue], memory: &M) -> Result<(), QueueError> {
        let _ = (queues, memory);
        Ok(())
    }

    /// What the device needs to go on elsewhere, besides registers and queues; `None` for one that is always
    /// [busy](VirtioDevice::busy).
    fn save(&self) -> Option<KindState>;

    /// Has a device that was just made go on where another was saved. The state is not believed.
    ///
    /// # Errors
    /// When it does not fit the device.
    fn restore(&mut self, state: &KindState) -> Result<(), Misfit>;

    /// Counters by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// How far a service came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Buffers were used of which the driver wants to hear.
    pub interrupt: bool,
    /// The budget ended before the work did.
    pub more: bool,
    /// The configuration space is another than before.
    pub reconfigured: bool,
}
