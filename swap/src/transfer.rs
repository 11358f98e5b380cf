//! A back end, and what is in flight in it.

use crate::region::PAGE;
use denali_devices::block::{BlockBackend, Failed, Operation, RequestId};
use denali_devices::virtio::HostSlice;
use std::ops::Range;

/// Clusters that are being filled, sealed or written at a time; their operations have the numbers 0 to 7.
pub(crate) const CLUSTERS: usize = 8;
/// Reads that are under way at a time; their operations have the numbers after the clusters'.
pub(crate) const READS: usize = 32;
/// The numbers of reads.
pub(crate) const READ_IDS: Range<usize> = CLUSTERS..CLUSTERS + READS;
/// Number of the operation that is waited for at once.
const WHOLE: usize = CLUSTERS + READS;

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    InFlight,
    Done(Result<(), Failed>),
}

/// A back end whose operations are told apart by number. When it is dropped, it waits for what is in
/// flight.
pub(crate) struct Transfers<B: BlockBackend> {
    backend: B,
    states: [State; WHOLE + 1],
}

impl<B: BlockBackend> Transfers<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, states: [State::Idle; WHOLE + 1] }
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether the back end has `size` bytes and takes blocks of a page.
    pub(crate) fn fits(&self, size: u64) -> bool {
        let geometry = self.backend.geometry();
        let blocks = geometry.block_size as usize <= PAGE && !geometry.read_only;
        blocks && geometry.sectors.saturating_mul(512) >= size
    }

    /// Accepts an operation, which begins when the next [`Transfers::look`] is had, or waiting. The number
    /// is one that is not in use.
    ///
    /// # Safety
    /// The slices stay mapped, and writable for a read, until the operation is found done or
    /// [`Transfers::settle`] has returned; until then nobody else touches them.
    pub(crate) unsafe fn submit(&mut self, id: usize, operation: Operation, slices: &[HostSlice]) {
        self.states[id] = State::InFlight;
        // SAFETY: the caller's, and numbers that are in use are not used again.
        self.call(|backend| unsafe { backend.submit(id as RequestId, operation, slices) });
    }

    /// Whether an operation is under way or its outcome was not taken yet.
    pub(crate) fn is_busy(&self, id: usize) -> bool {
        !matches!(self.states[id], State::Idle)
    }

    /// The outcome of an operation, if it is known. Its number is free then.
    pub(crate) fn take(&mut self, id: usize) -> Option<Result<(), Failed>> {
        match self.states[id] {
            State::Done(outcome) => {
                self.states[id] = State::Idle;
                Some(outcome)
            }
            _ => None,
        }
    }

    /// Begins what was accepted, and finds out what has completed.
    pub(crate) fn look(&mut self) {
        let mut done = [None; WHOLE + 1];
        self.call(|backend| {
            backend.start();
            backend.completed(&mut |id, outcome| {
                if let Some(done) = done.get_mut(usize::from(id)) {
                    *done = Some(outcome);
                }
            });
        });
        for (state, outcome) in self.states.iter_mut().zip(done) {
            if let (State::InFlight, Some(outcome)) = (*state, outcome) {
                *state = State::Done(outcome);
            }
        }
    }

    /// Waits until one of some operations, of which at least one is busy, is done, however long it takes.
    pub(crate) fn wait_for_any(&mut self, ids: Range<usize>) {
        self.look();
        while !self.states[ids.clone()].iter().any(|state| matches!(state, State::Done(_))) {
            self.call(BlockBackend::wait);
            self.look();
        }
    }

    /// Waits until none of some operations is in flight.
    pub(crate) fn settle(&mut self, ids: Range<usize>) {
        while self.states[ids.clone()].iter().any(|state| matches!(state, State::InFlight)) {
            self.call(BlockBackend::wait);
            self.look();
        }
    }

    /// Reads whole blocks.
    pub(crate) fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failed> {
        let slice = HostSlice { address: into.as_mut_ptr() as usize, length: into.len() };
        // SAFETY: the bytes are borrowed exclusively until `whole` returns.
        unsafe { self.whole(Operation::Read { offset }, &[slice]) }
    }

    /// Begins to read whole blocks of several places, at most [`READS`], at one go. No other reads are under way.
    ///
    /// # Safety
    /// The slices stay mapped and writable until [`Transfers::finish_reads`] has returned, or this was dropped;
    /// until then nobody else touches them.
    pub(crate) unsafe fn begin_reads(&mut self, reads: &[(u64, HostSlice)]) {
        for (id, (offset, slice)) in READ_IDS.zip(reads) {
            // SAFETY: the caller's.
            unsafe { self.submit(id, Operation::Read { offset: *offset }, &[*slice]) };
        }
        self.look();
    }

    /// Waits for all reads that were begun.
    pub(crate) fn finish_reads(&mut self) -> Result<(), Failed> {
        self.settle(READ_IDS);
        let outcomes = READ_IDS.filter_map(|id| self.take(id));
        outcomes.fold(Ok(()), Result::and)
    }

    /// Writes whole blocks.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let slice = HostSlice { address: bytes.as_ptr() as usize, length: bytes.len() };
        // SAFETY: the bytes are borrowed until `whole` returns, and a write only reads them.
        unsafe { self.whole(Operation::Write { offset, durable: false }, &[slice]) }
    }

    /// Has everything that was written kept, come what may.
    pub(crate) fn flush(&mut self) -> Result<(), Failed> {
        // SAFETY: there is no memory to it.
        unsafe { self.whole(Operation::Flush, &[]) }
    }

    /// Does an operation and waits for it.
    ///
    /// # Safety
    /// The slices are mapped, and writable for a read, and nobody else touches them.
    unsafe fn whole(&mut self, operation: Operation, slices: &[HostSlice]) -> Result<(), Failed> {
        // SAFETY: the caller's; this function returns when the operation is done.
        unsafe { self.submit(WHOLE, operation, slices) };
        loop {
            self.wait_for_any(WHOLE..WHOLE + 1);
            if let Some(outcome) = self.take(WHOLE) {
                return outcome;
            }
        }
    }

    /// Calls the back end. A panic in it would free memory that is in flight, so none is survived.
    fn call<R>(&mut self, call: impl FnOnce(&mut B) -> R) -> R {
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        let abort = Abort;
        let result = call(&mut self.backend);
        std::mem::forget(abort);
        result
    }
}

impl<B: BlockBackend> Drop for Transfers<B> {
    fn drop(&mut self) {
        self.settle(0..WHOLE + 1);
    }
}
