//! The queue processor: moves bytes between the console's queues and a back end, no more than that.

use super::backend::ConsoleBackend;
use super::metrics::ConsoleMetrics;
use crate::virtio::{Chain, DeviceQueue, Direction, QueueError};
use vm_memory::GuestMemory;

/// Bytes that pass through the host's memory at a time.
const PIECE: usize = 16 << 10;

/// Most pieces moved each way in one service, and most chains.
const PIECES_MAX: usize = 64;

/// How a direction was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing to do until something new comes.
    Done,
    /// The budget ended before the work did.
    More,
}

/// Moves bytes, and keeps what it needs for that from one service to the next.
#[derive(Debug, Default)]
pub(super) struct Processor {
    /// The guest's buffer that is being written out.
    outgoing: Chain,
    /// How much of it was, if it is not done.
    written: Option<usize>,
    /// How much of the guest's next buffer was written out before it was put back. No buffer has 4 GiB.
    resume_at: u32,
    incoming: Chain,
    piece: Vec<u8>,
    /// One buffer of input is filled in a service.
    pub(super) singly: bool,
}

impl Processor {
    pub(super) fn new(singly: bool) -> Self {
        Self { singly, ..Self::default() }
    }

    /// Writes out what the guest gave.
    pub(super) fn transmit<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        backend: &mut impl ConsoleBackend,
        metrics: &mut ConsoleMetrics,
    ) -> Result<Outcome, QueueError> {
        for _ in 0..PIECES_MAX {
            let done = match self.written {
                Some(done) => done,
                None if queue.take(memory, Direction::FromDriver, &mut self.outgoing)? => {
                    let done = std::mem::take(&mut self.resume_at) as usize;
                    done.min(self.outgoing.total())
                }
                None => return Ok(Outcome::Done),
            };
            let left = self.outgoing.total() - done;
            self.piece.resize(left.min(PIECE), 0);
            self.outgoing.read_at(memory, done, &mut self.piece)?;
            let taken = backend.write(&self.piece).min(self.piece.len());
            metrics.output_bytes += taken as u64;
            if taken < left {
                self.written = Some(done + taken);
                if taken < self.piece.len() {
                    metrics.output_waits += 1;
                    return Ok(Outcome::Done);
                }
                continue;
            }
            self.written = None;
            metrics.output_buffers += 1;
            queue.give_back(memory, self.outgoing.head(), 0)?;
        }
        Ok(Outcome::More)
    }

    /// Leaves the buffer that is being written out to the guest, so that it is taken again, and gone on with;
    /// without a queue it is forgotten.
    pub(super) fn put_back(&mut self, queue: Option<&mut DeviceQueue>) {
        let written = self.written.take();
        match (queue, written) {
            (Some(queue), Some(done)) => {
                queue.put_back();
                self.resume_at = done as u32;
            }
            (Some(_), None) => {}
            (None, _) => self.resume_at = 0,
        }
    }

    /// How much of the guest's next buffer was already written out.
    pub(super) fn resume_at(&self) -> u32 {
        self.resume_at
    }

    /// So much of the guest's next buffer was already written out, if it is as long.
    pub(super) fn resume(&mut self, written: u32) {
        self.resume_at = written;
    }

    /// Whether the next buffer of the guest would be taken at once.
    pub(super) fn may_continue(&self) -> bool {
        self.written.is_none()
    }

    /// Fills the guest's buffers with what waits for it.
    pub(super) fn receive<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        backend: &mut impl ConsoleBackend,
        metrics: &mut ConsoleMetrics,
    ) -> Result<Outcome, QueueError> {
        for _ in 0..if self.singly { 1 } else { PIECES_MAX } {
            if !queue.take(memory, Direction::ToDriver, &mut self.incoming)? {
                if queue.ask_for_notification(memory)? {
                    continue;
                }
                backend.want_input(false);
                return Ok(Outcome::Done);
            }
            self.piece.resize(self.incoming.total().min(PIECE), 0);
            // A buffer without room is returned as it is.
            let length = backend.read(&mut self.piece).min(self.piece.len());
            if length == 0 && !self.piece.is_empty() {
                queue.put_back();
                backend.want_input(true);
                return Ok(Outcome::Done);
            }
            self.incoming.write(memory, 0, &self.piece[..length])?;
            metrics.input_buffers += 1;
            metrics.input_bytes += length as u64;
            queue.give_back(memory, self.incoming.head(), length as u32)?;
        }
        Ok(Outcome::More)
    }
}
