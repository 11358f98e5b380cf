//! The console as a virtio device.

use super::backend::ConsoleBackend;
use super::metrics::ConsoleMetrics;
use super::queue::{Outcome, Processor};
use crate::state::{ConsoleState, KindState, Misfit};
use crate::virtio::{DeviceQueue, Progress, QueueError, VirtioDevice};
use denali_abi::boot::KIND_CONSOLE;
use denali_abi::virtio::{CONSOLE_RECEIVE_QUEUE, CONSOLE_TRANSMIT_QUEUE};
use vm_memory::GuestMemory;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 64;

/// A virtio console with one port, and the back end that carries its bytes.
///
/// Output that its reader is too slow for stays in the guest's buffers: nothing is lost, and only the guest
/// waits. Of the features of consoles there is none: no size, no further ports.
pub struct ConsoleDevice<B: ConsoleBackend> {
    backend: B,
    processor: Processor,
    metrics: ConsoleMetrics,
}

impl<B: ConsoleBackend> ConsoleDevice<B> {
    /// A console that carries its bytes through `backend`.
    #[must_use]
    pub fn new(backend: B) -> Self {
        Self { backend, processor: Processor::default(), metrics: ConsoleMetrics::default() }
    }

    /// The console's own counters.
    #[must_use]
    pub fn metrics(&self) -> &ConsoleMetrics {
        &self.metrics
    }

    /// The back end.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }
}

impl<M: GuestMemory, B: ConsoleBackend> VirtioDevice<M> for ConsoleDevice<B> {
    fn kind(&self) -> u32 {
        KIND_CONSOLE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn deliver_singly(&mut self, singly: bool) {
        self.processor.singly = singly;
    }

    fn activate(&mut self, _features: u64) {
        self.backend.attach(true);
    }

    /// What of a buffer was not written out yet goes with the driver.
    fn reset(&mut self) {
        self.processor = Processor::new(self.processor.singly);
        self.backend.attach(false);
    }

    fn service(
        &mut self,
        queues: &mut [DeviceQueue],
        memory: &M,
        _now_ns: u64,
    ) -> Result<Progress, QueueError> {
        let Ok([receive, transmit]) = queues.get_disjoint_mut([
            usize::from(CONSOLE_RECEIVE_QUEUE),
            usize::from(CONSOLE_TRANSMIT_QUEUE),
        ]) else {
            return Ok(Progress::default());
        };
        let (backend, metrics) = (&mut self.backend, &mut self.metrics);
        let mut more = false;
        if transmit.ready() {
            more |= self.processor.transmit(transmit, memory, backend, metrics)? == Outcome::More
                || (self.processor.may_continue() && transmit.ask_for_notification(memory)?);
        }
        if receive.ready() {
            more |= self.processor.receive(receive, memory, backend, metrics)? == Outcome::More;
        }
        let interrupt = receive.wants_interrupt(memory)? | transmit.wants_interrupt(memory)?;
        Ok(Progress { interrupt, more, ..Progress::default() })
    }

    fn idle(&mut self, _now_ns: u64) {}

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn busy(&mut self) -> Option<&'static str> {
        self.backend.busy()
    }

    fn settle(&mut self, queues: &mut [DeviceQueue], _memory: &M) -> Result<(), QueueError> {
        self.processor.put_back(queues.get_mut(usize::from(CONSOLE_TRANSMIT_QUEUE)));
        Ok(())
    }

    fn save(&self) -> Option<KindState> {
        Some(KindState::Console(ConsoleState { written: self.processor.resume_at() }))
    }

    fn restore(&mut self, state: &KindState) -> Result<(), Misfit> {
        let KindState::Console(state) = state else {
            return Err(Misfit::kind(state, KIND_CONSOLE));
        };
        self.processor.resume(state.written);
        Ok(())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.metrics.list().to_vec();
        counters.extend(self.backend.counters());
        counters
    }
}
