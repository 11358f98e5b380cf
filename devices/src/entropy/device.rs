//! The entropy device as a virtio device.

use super::backend::EntropySource;
use super::metrics::EntropyMetrics;
use super::queue::Processor;
use crate::rate::RateLimiter;
use crate::state::{EntropyState, KindState, Misfit};
use crate::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use denali_abi::boot::KIND_ENTROPY;
use denali_abi::virtio::ENTROPY_QUEUE;
use vm_memory::GuestMemory;

/// Entries of the queue.
const QUEUE_SIZE: u16 = 64;

/// A virtio entropy device with its one queue. A buffer gets 4096 random bytes at most.
pub struct EntropyDevice<S: EntropySource> {
    source: S,
    limiter: RateLimiter,
    processor: Processor,
    metrics: EntropyMetrics,
}

impl<S: EntropySource> EntropyDevice<S> {
    /// A device that gives what `source` has, as far as `limiter` lets it.
    #[must_use]
    pub fn new(source: S, limiter: RateLimiter) -> Self {
        Self {
            source,
            limiter,
            processor: Processor::default(),
            metrics: EntropyMetrics::default(),
        }
    }

    /// The device's own counters.
    #[must_use]
    pub fn metrics(&self) -> &EntropyMetrics {
        &self.metrics
    }
}

impl<M: GuestMemory, S: EntropySource> VirtioDevice<M> for EntropyDevice<S> {
    fn kind(&self) -> u32 {
        KIND_ENTROPY
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, _features: u64) {}

    /// The limit goes on: a reset is no way around it.
    fn reset(&mut self) {
        self.processor = Processor::default();
        self.limiter.forget();
    }

    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        now_ns: u64,
    ) -> Result<Progress, QueueError> {
        let Some(queue) = queues.get_mut(usize::from(ENTROPY_QUEUE)).filter(|queue| queue.ready())
        else {
            return Ok(Progress::default());
        };
        let limit = (&mut self.limiter, now_ns);
        let metrics = &mut self.metrics;
        let more = self.processor.service(queue, memory, &mut self.source, limit, metrics)?;
        let interrupt = queue.wants_interrupt(memory)?;
        Ok(Progress { interrupt, more, ..Progress::default() })
    }

    fn idle(&mut self, _now_ns: u64) {}

    fn deadline(&self) -> Option<u64> {
        let times = [self.limiter.ready_at(), self.processor.retry_at()];
        times.into_iter().flatten().min()
    }

    fn busy(&mut self) -> Option<&'static str> {
        None
    }

    fn save(&self) -> Option<KindState> {
        Some(KindState::Entropy(EntropyState { limiter: self.limiter.save() }))
    }

    fn restore(&mut self, state: &KindState) -> Result<(), Misfit> {
        let KindState::Entropy(state) = state else {
            return Err(Misfit::kind(state, KIND_ENTROPY));
        };
        self.limiter.restore(&state.limiter);
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.metrics.list().to_vec()
    }
}
