//! What the block device needs of whatever keeps its sectors.

use crate::virtio::HostSlice;

/// Tells the requests in flight apart; chosen by the device, below the size of its queue.
pub type RequestId = u16;

/// What a back end keeps, and what it can do. Always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of the smallest block that is read or written as a whole: a power of two, at least 512.
    /// Requests that are not aligned to it may fail.
    pub block_size: u32,
    /// Nothing can be written.
    pub read_only: bool,
    /// [`Operation::Discard`] does something.
    pub discard: bool,
    /// [`Operation::WriteZeroes`] works.
    pub write_zeroes: bool,
}

/// One thing to be done; positions and lengths in bytes, multiples of 512, inside the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the slices.
    Read {
        /// From here on.
        offset: u64,
    },
    /// Write the slices out.
    Write {
        /// From here on.
        offset: u64,
        /// They are on the disk before this completes.
        durable: bool,
    },
    /// All that completed before this was submitted is on the disk before this completes.
    Flush,
    /// The range is of no more use; it may read as anything.
    Discard {
        /// Start.
        offset: u64,
        /// Length.
        length: u64,
    },
    /// The range reads as zeroes.
    WriteZeroes {
        /// Start.
        offset: u64,
        /// Length.
        length: u64,
        /// The space may be given back.
        unmap: bool,
    },
}

/// An operation failed. The back end has counted why; a guest learns no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input or output failed")]
pub struct Failed;

/// When the back end's descriptor wakes whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At the next completion.
    AtNext,
    /// Once, after so many nanoseconds, whatever completes before.
    After(u64),
}

/// Keeps the sectors of one block device, and works on many requests at a time.
///
/// At each service the device calls `submit` for the guest's new requests, then `start`, then
/// `completed`, then `wake`. Everything happens on one thread, and nothing blocks but `drain` and `wait`,
/// where the back end is asynchronous.
pub trait BlockBackend {
    /// What it keeps.
    fn geometry(&self) -> Geometry;

    /// Accepts an operation, which need not begin before `start`. It always accepts: an operation that
    /// cannot be done completes as failed.
    ///
    /// # Safety
    /// Until the back end has reported `id` as completed, or [`BlockBackend::drain`] has returned true,
    /// the slices are mapped, and writable for a read. Others may read and write them meanwhile. No
    /// operation in flight has the same `id`.
    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]);

    /// Begins what was submitted, and finds out what has completed.
    fn start(&mut self);

    /// Reports each operation that `start` has found completed, in any order, each once.
    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>));

    /// Says when to be woken for what is in flight. Only called while something is.
    fn wake(&mut self, when: Wake);

    /// Waits until nothing is in flight, so that no slice is touched any more, for a bounded time; what
    /// completes is still reported by `completed`. False: something is still in flight.
    fn drain(&mut self) -> bool;

    /// Waits until something that is in flight has completed, for a bounded time; `completed` reports it.
    /// For whoever has nothing else to do meanwhile.
    fn wait(&mut self) {
        self.drain();
    }

    /// Counters by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

impl<B: BlockBackend + ?Sized> BlockBackend for Box<B> {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    unsafe fn submit(&mut self, id: RequestId, operation: Operation, slices: &[HostSlice]) {
        // SAFETY: the obligation is passed on unchanged.
        unsafe { (**self).submit(id, operation, slices) };
    }

    fn start(&mut self) {
        (**self).start();
    }

    fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
        (**self).completed(done);
    }

    fn wake(&mut self, when: Wake) {
        (**self).wake(when);
    }

    fn drain(&mut self) -> bool {
        (**self).drain()
    }

    fn wait(&mut self) {
        (**self).wait();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        (**self).counters()
    }
}
