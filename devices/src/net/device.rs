//! The network card as a virtio device.

use super::ETHERNET_HEADER;
use super::backend::NetBackend;
use super::metrics::NetMetrics;
use super::queue::{Processor, Terms};
use crate::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use denali_abi::boot::KIND_NET;
use denali_abi::virtio::{
    NET_CONFIG_MAC, NET_CONFIG_MTU, NET_FEATURE_CSUM, NET_FEATURE_GUEST_CSUM, NET_FEATURE_MAC,
    NET_FEATURE_MTU, NET_RECEIVE_QUEUE, NET_TRANSMIT_QUEUE,
};
use vm_memory::GuestMemory;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;

/// Bytes of the configuration space: MAC address, status, queue pairs, MTU.
const CONFIG_SIZE: usize = 12;

/// What a network card is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// The guest's MAC address.
    pub mac: [u8; 6],
    /// Most bytes of an IP packet.
    pub mtu: u16,
}

/// A virtio network card with one pair of queues, and the back end that carries its frames.
pub struct NetDevice<B: NetBackend> {
    config: [u8; CONFIG_SIZE],
    mtu: u16,
    features: u64,
    backend: B,
    processor: Processor,
    metrics: NetMetrics,
}

impl<B: NetBackend> NetDevice<B> {
    /// A card that carries its frames through `backend`.
    #[must_use]
    pub fn new(config: NetConfig, backend: B) -> Self {
        let mut space = [0; CONFIG_SIZE];
        space[usize::from(NET_CONFIG_MAC)..][..6].copy_from_slice(&config.mac);
        space[usize::from(NET_CONFIG_MTU)..][..2].copy_from_slice(&config.mtu.to_le_bytes());
        Self {
            config: space,
            mtu: config.mtu,
            features: 0,
            backend,
            processor: Processor::default(),
            metrics: NetMetrics::default(),
        }
    }

    /// The card's own counters.
    #[must_use]
    pub fn metrics(&self) -> &NetMetrics {
        &self.metrics
    }

    /// The back end.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    fn terms(&self) -> Terms {
        Terms {
            frame_max: ETHERNET_HEADER + usize::from(self.mtu),
            partial_from_guest: self.features & NET_FEATURE_CSUM != 0,
            trusts_device: self.features & NET_FEATURE_GUEST_CSUM != 0,
        }
    }
}

impl<M: GuestMemory, B: NetBackend> VirtioDevice<M> for NetDevice<B> {
    fn kind(&self) -> u32 {
        KIND_NET
    }

    fn features(&self) -> u64 {
        NET_FEATURE_MAC | NET_FEATURE_MTU | NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn reset(&mut self) {
        self.features = 0;
        self.processor = Processor::default();
    }

    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        now_ns: u64,
    ) -> Result<Progress, QueueError> {
        let terms = self.terms();
        let Ok([receive, transmit]) = queues
            .get_disjoint_mut([usize::from(NET_RECEIVE_QUEUE), usize::from(NET_TRANSMIT_QUEUE)])
        else {
            return Ok(Progress::default());
        };
        let (processor, backend, metrics) =
            (&mut self.processor, &mut self.backend, &mut self.metrics);
        backend.begin(now_ns);
        let mut more = false;
        if transmit.has_available(memory)? {
            more |= processor.transmit(transmit, memory, terms, backend, metrics)?;
            more |= transmit.ask_for_notification(memory)?;
        }
        backend.process();
        more |= processor.receive(receive, memory, terms, backend, metrics)?;
        more |= backend.has_work();
        let interrupt = receive.wants_interrupt(memory)? | transmit.wants_interrupt(memory)?;
        Ok(Progress { interrupt, more })
    }

    fn idle(&mut self, now_ns: u64) {
        self.backend.begin(now_ns);
        self.backend.process();
    }

    fn deadline(&self) -> Option<u64> {
        self.backend.deadline()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.metrics.list().to_vec();
        counters.extend(self.backend.counters());
        counters
    }
}
