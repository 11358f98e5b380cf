//! The queue processor: fills buffers from a source of random bytes, no more than that.

use super::backend::EntropySource;
use super::metrics::EntropyMetrics;
use crate::rate::RateLimiter;
use crate::virtio::{Chain, DeviceQueue, Direction, QueueError};
use vm_memory::GuestMemory;

/// Most random bytes in one buffer, however large it is.
const REQUEST_MAX: usize = 4096;

/// Most buffers filled in one service.
const CHAINS_MAX: usize = 64;

/// How long the host is left alone when it had no random bytes.
const RETRY_NS: u64 = 100_000_000;

/// Fills buffers, and keeps what it needs for that from one service to the next.
#[derive(Debug, Default)]
pub(super) struct Processor {
    chain: Chain,
    bytes: Vec<u8>,
    retry_at: Option<u64>,
}

impl Processor {
    /// Fills the buffers there are, within the limits. True: the budget ended before the work did.
    pub(super) fn service<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        source: &mut impl EntropySource,
        (limiter, now_ns): (&mut RateLimiter, u64),
        metrics: &mut EntropyMetrics,
    ) -> Result<bool, QueueError> {
        limiter.forget();
        if self.retry_at.is_some_and(|at| now_ns < at) {
            return Ok(false);
        }
        self.retry_at = None;
        for _ in 0..CHAINS_MAX {
            if !queue.take(memory, Direction::ToDriver, &mut self.chain)? {
                return queue.ask_for_notification(memory);
            }
            let length = self.chain.total().min(REQUEST_MAX);
            if !limiter.consume(length as u64, now_ns) {
                metrics.throttled += 1;
                queue.put_back();
                return Ok(false);
            }
            self.bytes.resize(length, 0);
            if !source.fill(&mut self.bytes) {
                metrics.unavailable += 1;
                limiter.refund(length as u64);
                queue.put_back();
                self.retry_at = Some(now_ns.saturating_add(RETRY_NS));
                return Ok(false);
            }
            self.chain.write(memory, 0, &self.bytes)?;
            // What the guest keys its generators with does not stay in the monitor.
            self.bytes.fill(0);
            metrics.requests += 1;
            metrics.bytes += length as u64;
            queue.give_back(memory, self.chain.head(), length as u32)?;
        }
        Ok(true)
    }

    /// When the source is asked again.
    pub(super) fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }
}
