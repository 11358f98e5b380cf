//! The network card as a virtio device.

use super::ETHERNET_HEADER;
use super::backend::{NetBackend, Offers, Wanted};
use super::metrics::NetMetrics;
use super::processor::{CHAINS_MAX, Outcome, Processor, Service, Terms};
use crate::rate::RateLimiter;
use crate::state::{KindState, Misfit, NetState};
use crate::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use denali_abi::boot::KIND_NET;
use denali_abi::virtio::{
    NET_CONFIG_MAC, NET_CONFIG_MTU, NET_CONFIG_STATUS, NET_FEATURE_CSUM, NET_FEATURE_GUEST_CSUM,
    NET_FEATURE_GUEST_TSO4, NET_FEATURE_GUEST_TSO6, NET_FEATURE_HOST_TSO4, NET_FEATURE_HOST_TSO6,
    NET_FEATURE_MAC, NET_FEATURE_MRG_RXBUF, NET_FEATURE_MTU, NET_FEATURE_STATUS, NET_RECEIVE_QUEUE,
    NET_TRANSMIT_QUEUE,
};
use vm_memory::GuestMemory;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;

/// Bytes of the configuration space: MAC address, status, queue pairs, MTU.
const CONFIG_SIZE: usize = 12;

/// The link is up, in the status of the configuration space.
const LINK_UP: u8 = 1;

/// Features that every card has.
const OWN_FEATURES: u64 =
    NET_FEATURE_MAC | NET_FEATURE_MTU | NET_FEATURE_STATUS | NET_FEATURE_MRG_RXBUF;

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
    /// Most frames for the guest in one service.
    receive_max: usize,
    metrics: NetMetrics,
    receive_limiter: RateLimiter,
    transmit_limiter: RateLimiter,
}

impl<B: NetBackend> NetDevice<B> {
    /// A card that carries its frames through `backend`.
    #[must_use]
    pub fn new(config: NetConfig, backend: B) -> Self {
        let mut space = [0; CONFIG_SIZE];
        space[usize::from(NET_CONFIG_MAC)..][..6].copy_from_slice(&config.mac);
        space[usize::from(NET_CONFIG_STATUS)] = LINK_UP;
        space[usize::from(NET_CONFIG_MTU)..][..2].copy_from_slice(&config.mtu.to_le_bytes());
        Self {
            config: space,
            mtu: config.mtu,
            features: 0,
            backend,
            processor: Processor::default(),
            receive_max: CHAINS_MAX,
            metrics: NetMetrics::default(),
            receive_limiter: RateLimiter::default(),
            transmit_limiter: RateLimiter::default(),
        }
    }

    /// The same card, whose frames and their bytes are limited: those for the guest by `receive`, the
    /// guest's by `transmit`. A large segment is one operation.
    #[must_use]
    pub fn limited(self, receive: RateLimiter, transmit: RateLimiter) -> Self {
        Self { receive_limiter: receive, transmit_limiter: transmit, ..self }
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
        let has = |feature| self.features & feature != 0;
        // Large segments come with checksums left over; without the one there is not the other.
        let wanted = |checksums, v4, v6| Wanted {
            checksums: has(checksums),
            segments_v4: has(checksums) && has(v4),
            segments_v6: has(checksums) && has(v6),
        };
        Terms {
            frame_max: ETHERNET_HEADER + usize::from(self.mtu),
            from_guest: wanted(NET_FEATURE_CSUM, NET_FEATURE_HOST_TSO4, NET_FEATURE_HOST_TSO6),
            to_guest: wanted(
                NET_FEATURE_GUEST_CSUM,
                NET_FEATURE_GUEST_TSO4,
                NET_FEATURE_GUEST_TSO6,
            ),
            mergeable: has(NET_FEATURE_MRG_RXBUF),
        }
    }

    /// Whether the state of the link has changed for the driver.
    fn set_status(&mut self) -> bool {
        let now = if self.backend.link_up() { LINK_UP } else { 0 };
        let before = std::mem::replace(&mut self.config[usize::from(NET_CONFIG_STATUS)], now);
        now != before && self.features & NET_FEATURE_STATUS != 0
    }
}

/// The features that a back end makes possible.
fn offload_features(offers: Offers) -> u64 {
    const CHECKSUMS: u64 = NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM;
    const SEGMENTS: u64 = NET_FEATURE_GUEST_TSO4
        | NET_FEATURE_GUEST_TSO6
        | NET_FEATURE_HOST_TSO4
        | NET_FEATURE_HOST_TSO6;
    match (offers.checksums, offers.segments) {
        (false, _) => 0,
        (true, false) => CHECKSUMS,
        (true, true) => CHECKSUMS | SEGMENTS,
    }
}

impl<M: GuestMemory, B: NetBackend> VirtioDevice<M> for NetDevice<B> {
    fn kind(&self) -> u32 {
        KIND_NET
    }

    fn features(&self) -> u64 {
        OWN_FEATURES | offload_features(self.backend.offers())
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn deliver_singly(&mut self, singly: bool) {
        self.receive_max = if singly { 1 } else { CHAINS_MAX };
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        self.backend.agree(Some(self.terms().to_guest));
    }

    fn reset(&mut self) {
        self.features = 0;
        self.processor = Processor::default();
        self.receive_limiter.forget();
        self.transmit_limiter.forget();
        self.backend.agree(None);
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
        self.backend.begin(now_ns);
        self.receive_limiter.forget();
        self.transmit_limiter.forget();
        let (processor, backend, metrics) =
            (&mut self.processor, &mut self.backend, &mut self.metrics);
        let (limiter, receive_max) = (&mut self.transmit_limiter, self.receive_max);
        let mut service = Service { terms, backend, metrics, limiter, receive_max, now_ns };
        let mut more = false;
        if transmit.has_available(memory)? {
            more |= match processor.transmit(transmit, memory, &mut service)? {
                Outcome::Done => transmit.ask_for_notification(memory)?,
                Outcome::More => true,
                Outcome::Blocked => false,
            };
        }
        service.backend.process();
        let limiter = &mut self.receive_limiter;
        let mut service = Service { limiter, ..service };
        more |= processor.receive(receive, memory, &mut service)? == Outcome::More;
        more |= service.backend.has_work();
        let reconfigured = self.set_status();
        let interrupt = receive.wants_interrupt(memory)? | transmit.wants_interrupt(memory)?;
        Ok(Progress { interrupt, more, reconfigured })
    }

    fn idle(&mut self, now_ns: u64) {
        self.backend.begin(now_ns);
        self.backend.process();
    }

    fn deadline(&self) -> Option<u64> {
        let limits = [self.receive_limiter.ready_at(), self.transmit_limiter.ready_at()];
        limits.into_iter().chain([self.backend.deadline()]).flatten().min()
    }

    fn tidy(&mut self) {
        self.backend.tidy();
    }

    fn busy(&mut self) -> Option<&'static str> {
        self.backend.busy()
    }

    fn save(&self) -> Option<KindState> {
        Some(KindState::Net(NetState {
            mtu: self.mtu,
            receive_limiter: self.receive_limiter.save(),
            transmit_limiter: self.transmit_limiter.save(),
        }))
    }

    /// What the queue processor remembers of notifications is not needed: it asks for them again.
    fn restore(&mut self, state: &KindState) -> Result<(), Misfit> {
        let KindState::Net(state) = state else { return Err(Misfit::kind(state, KIND_NET)) };
        if state.mtu != self.mtu {
            return Err(Misfit::Mtu { saved: state.mtu, attached: self.mtu });
        }
        self.receive_limiter.restore(&state.receive_limiter);
        self.transmit_limiter.restore(&state.transmit_limiter);
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.metrics.list().to_vec();
        counters.extend(self.backend.counters());
        counters
    }
}
