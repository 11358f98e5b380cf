//! The queue processor: moves frames between the card's queues and a back end, no more than that.

mod receive;
mod transmit;

use super::NET_HEADER;
use super::backend::{NetBackend, Wanted};
use super::memory::Piece;
use super::metrics::NetMetrics;
use crate::rate::RateLimiter;
use crate::virtio::{Chain, Part, QueueError};
use std::cell::Cell;
use vm_memory::GuestMemory;

/// Most chains taken from one queue in one service: a full ring.
pub(crate) const CHAINS_MAX: usize = 256;

/// Bytes after which a service of one queue stops.
const BYTES_MAX: usize = 4 << 20;

/// Moves frames, and keeps what it needs for that from one service to the next.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    /// The frame on its way out.
    outgoing: Chain,
    /// Receive buffers that were taken, in order, and are not filled. Empty between services.
    taken: Vec<Chain>,
    /// The buffers of one frame: descriptor index and bytes written.
    filled: Vec<(u16, u32)>,
    /// Chains for later use, so that nothing is allocated per frame.
    spare: Vec<Chain>,
    /// The guest has been asked to notify of new receive buffers, and has brought none yet.
    asked_for_buffers: bool,
    /// The guest has been told that it need not notify of new receive buffers.
    declined_buffers: bool,
}

/// What was agreed with the driver and configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Most bytes of a frame that is no large segment.
    pub(crate) frame_max: usize,
    /// What the driver may leave to the device.
    pub(crate) from_guest: Wanted,
    /// What the device may leave to the driver.
    pub(crate) to_guest: Wanted,
    /// A frame for the guest may span several of its chains.
    pub(crate) mergeable: bool,
}

/// What else a service works with.
pub(crate) struct Service<'a> {
    pub(crate) terms: Terms,
    pub(crate) backend: &'a mut dyn NetBackend,
    pub(crate) metrics: &'a mut NetMetrics,
    /// Limits the direction that is served.
    pub(crate) limiter: &'a mut RateLimiter,
    /// Most frames for the guest.
    pub(crate) receive_max: usize,
    /// Monotonic time in nanoseconds.
    pub(crate) now_ns: u64,
}

/// How the service of one queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything there was is done.
    Done,
    /// Something is left that cannot be done now; what makes it possible wakes the monitor.
    Blocked,
    /// The budget ended before the work.
    More,
}

/// Bytes of the card's own in front of pieces of the guest's.
type OwnHeader = [Cell<u8>; NET_HEADER];

fn set(own: &OwnHeader, bytes: &[u8; NET_HEADER]) {
    for (to, &from) in own.iter().zip(bytes) {
        to.set(from);
    }
}

fn get(own: &OwnHeader) -> [u8; NET_HEADER] {
    std::array::from_fn(|index| own[index].get())
}

/// Appends the memory of a part of the chain to `pieces`, without its first `skip` bytes.
fn append<'m, M: GuestMemory>(
    chain: &Chain,
    memory: &'m M,
    part: Part,
    skip: usize,
    pieces: &mut Vec<Piece<'m>>,
) -> Result<(), QueueError> {
    let total = chain.total_of(part);
    chain.slices(memory, part, skip.min(total)..total, |slice| pieces.push(Piece::of_guest(&slice)))
}
