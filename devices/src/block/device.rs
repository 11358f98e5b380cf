//! The block device as a virtio device.

use super::backend::{BlockBackend, Geometry};
use super::metrics::BlockMetrics;
use super::queue::{Host, Processor};
use super::request::{RANGE_SECTORS_MAX, RANGES_MAX, SEGMENT_SIZE_MAX, SEGMENTS_MAX, Terms};
use crate::rate::RateLimiter;
use crate::state::{BlockState, KindState, Misfit};
use crate::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use denali_abi::boot::KIND_BLOCK;
use denali_abi::virtio::{
    BLOCK_CONFIG_BLK_SIZE, BLOCK_CONFIG_CAPACITY, BLOCK_CONFIG_DISCARD_ALIGNMENT,
    BLOCK_CONFIG_MAX_DISCARD_SECTORS, BLOCK_CONFIG_MAX_DISCARD_SEG,
    BLOCK_CONFIG_MAX_WRITE_ZEROES_SECTORS, BLOCK_CONFIG_MAX_WRITE_ZEROES_SEG, BLOCK_CONFIG_SEG_MAX,
    BLOCK_CONFIG_SIZE, BLOCK_CONFIG_SIZE_MAX, BLOCK_CONFIG_WRITE_ZEROES_MAY_UNMAP,
    BLOCK_FEATURE_BLK_SIZE, BLOCK_FEATURE_DISCARD, BLOCK_FEATURE_FLUSH, BLOCK_FEATURE_RO,
    BLOCK_FEATURE_SEG_MAX, BLOCK_FEATURE_SIZE_MAX, BLOCK_FEATURE_WRITE_ZEROES, BLOCK_ID,
    BLOCK_SECTOR,
};
use vm_memory::GuestMemory;

/// Entries of the queue.
pub const QUEUE_SIZE: u16 = 256;

/// What a block device is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// The name a driver can ask for, padded with zeros.
    pub id: [u8; BLOCK_ID],
    /// Writes are refused, whatever the back end could do.
    pub read_only: bool,
}

impl BlockConfig {
    /// A device whose name is the first bytes of `name`.
    #[must_use]
    pub fn new(name: &str, read_only: bool) -> Self {
        let mut id = [0; BLOCK_ID];
        let length = name.len().min(BLOCK_ID);
        id[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { id, read_only }
    }
}

/// A virtio block device with one queue, and the back end that keeps its sectors.
///
/// Whoever unmaps guest memory under it first calls [`BlockDevice::drain`], and goes on only once that
/// has returned true.
pub struct BlockDevice<B: BlockBackend> {
    config: [u8; BLOCK_CONFIG_SIZE],
    id: [u8; BLOCK_ID],
    geometry: Geometry,
    features: u64,
    backend: B,
    limiter: RateLimiter,
    processor: Processor,
    /// Completed requests are returned one at a time.
    singly: bool,
    metrics: BlockMetrics,
}

impl<B: BlockBackend> BlockDevice<B> {
    /// A device that keeps its sectors in `backend`.
    #[must_use]
    pub fn new(config: BlockConfig, backend: B) -> Self {
        let mut geometry = backend.geometry();
        geometry.read_only |= config.read_only;
        geometry.discard &= !geometry.read_only;
        geometry.write_zeroes &= !geometry.read_only;
        Self {
            config: config_space(&geometry),
            id: config.id,
            geometry,
            features: 0,
            backend,
            limiter: RateLimiter::default(),
            processor: Processor::default(),
            singly: false,
            metrics: BlockMetrics::default(),
        }
    }

    /// The same device, whose requests and their bytes are limited.
    #[must_use]
    pub fn limited(mut self, limiter: RateLimiter) -> Self {
        self.limiter = limiter;
        self
    }

    /// The device's own counters.
    #[must_use]
    pub fn metrics(&self) -> &BlockMetrics {
        &self.metrics
    }

    /// The back end.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Waits, for a bounded time, until nothing in flight touches guest memory any more; requests that
    /// complete meanwhile are returned at the next service. False: something still does.
    pub fn drain(&mut self) -> bool {
        self.backend.drain()
    }

    fn terms(&self) -> Terms {
        Terms {
            geometry: self.geometry,
            durable_writes: self.features & BLOCK_FEATURE_FLUSH == 0,
            id: self.id,
        }
    }
}

fn config_space(geometry: &Geometry) -> [u8; BLOCK_CONFIG_SIZE] {
    let mut space = [0; BLOCK_CONFIG_SIZE];
    let capacity = geometry.sectors.to_le_bytes();
    space[usize::from(BLOCK_CONFIG_CAPACITY)..][..8].copy_from_slice(&capacity);
    let alignment = geometry.block_size / BLOCK_SECTOR as u32;
    for (offset, value) in [
        (BLOCK_CONFIG_SIZE_MAX, SEGMENT_SIZE_MAX as u32),
        (BLOCK_CONFIG_SEG_MAX, SEGMENTS_MAX as u32),
        (BLOCK_CONFIG_BLK_SIZE, geometry.block_size),
        (BLOCK_CONFIG_MAX_DISCARD_SECTORS, RANGE_SECTORS_MAX),
        (BLOCK_CONFIG_MAX_DISCARD_SEG, RANGES_MAX as u32),
        (BLOCK_CONFIG_DISCARD_ALIGNMENT, alignment),
        (BLOCK_CONFIG_MAX_WRITE_ZEROES_SECTORS, RANGE_SECTORS_MAX),
        (BLOCK_CONFIG_MAX_WRITE_ZEROES_SEG, RANGES_MAX as u32),
    ] {
        space[usize::from(offset)..][..4].copy_from_slice(&value.to_le_bytes());
    }
    space[usize::from(BLOCK_CONFIG_WRITE_ZEROES_MAY_UNMAP)] = 1;
    space
}

impl<M: GuestMemory, B: BlockBackend> VirtioDevice<M> for BlockDevice<B> {
    fn kind(&self) -> u32 {
        KIND_BLOCK
    }

    fn features(&self) -> u64 {
        let mut features = BLOCK_FEATURE_SIZE_MAX | BLOCK_FEATURE_SEG_MAX | BLOCK_FEATURE_BLK_SIZE;
        features |= BLOCK_FEATURE_FLUSH;
        for (bit, offered) in [
            (BLOCK_FEATURE_RO, self.geometry.read_only),
            (BLOCK_FEATURE_DISCARD, self.geometry.discard),
            (BLOCK_FEATURE_WRITE_ZEROES, self.geometry.write_zeroes),
        ] {
            features |= if offered { bit } else { 0 };
        }
        features
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn deliver_singly(&mut self, singly: bool) {
        self.singly = singly;
        self.processor.return_singly(singly);
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    /// The driver may use its memory for something else once this is over, so nothing may be in flight.
    fn reset(&mut self) {
        self.features = 0;
        self.limiter.forget();
        if self.processor.in_flight() > 0 {
            self.backend.drain();
            self.processor.abandon(&mut self.backend);
        }
        if self.processor.in_flight() == 0 {
            self.processor = Processor::new(self.singly);
        }
    }

    fn at_rest(&self) -> bool {
        self.processor.in_flight() == 0
    }

    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        now_ns: u64,
    ) -> Result<Progress, QueueError> {
        let terms = self.terms();
        let Some(queue) = queues.first_mut() else { return Ok(Progress::default()) };
        let mut host = Host {
            backend: &mut self.backend,
            limiter: &mut self.limiter,
            metrics: &mut self.metrics,
        };
        self.processor.service(queue, memory, &terms, &mut host, now_ns)
    }

    fn idle(&mut self, _now_ns: u64) {
        self.limiter.forget();
        self.processor.abandon(&mut self.backend);
    }

    fn deadline(&self) -> Option<u64> {
        [self.processor.deadline(), self.limiter.ready_at()].into_iter().flatten().min()
    }

    fn busy(&mut self) -> Option<&'static str> {
        None
    }

    fn settle(&mut self, queues: &mut [DeviceQueue], memory: &M) -> Result<(), QueueError> {
        if self.processor.in_flight() == 0 {
            return Ok(());
        }
        self.backend.drain();
        let Some(queue) = queues.first_mut() else {
            self.processor.abandon(&mut self.backend);
            return Ok(());
        };
        let mut host = Host {
            backend: &mut self.backend,
            limiter: &mut self.limiter,
            metrics: &mut self.metrics,
        };
        self.processor.settle(queue, memory, &mut host)
    }

    fn save(&self) -> Option<KindState> {
        let Geometry { sectors, block_size, read_only, .. } = self.geometry;
        let limiter = self.limiter.save();
        Some(KindState::Block(BlockState { sectors, block_size, read_only, limiter }))
    }

    fn restore(&mut self, state: &KindState) -> Result<(), Misfit> {
        let KindState::Block(state) = state else { return Err(Misfit::kind(state, KIND_BLOCK)) };
        let Geometry { sectors, block_size, read_only, .. } = self.geometry;
        if state.sectors != sectors {
            return Err(Misfit::Sectors { saved: state.sectors, attached: sectors });
        }
        if state.block_size != block_size {
            return Err(Misfit::BlockSize { saved: state.block_size, attached: block_size });
        }
        if state.read_only != read_only {
            return Err(Misfit::ReadOnly { now: read_only });
        }
        self.limiter.restore(&state.limiter);
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.metrics.list().to_vec();
        counters.extend(self.backend.counters());
        counters
    }
}
