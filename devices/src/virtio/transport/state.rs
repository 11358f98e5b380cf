//! A device at rest: what is saved of it, and a device that goes on from there.

use super::{INTERRUPT_CONFIG, INTERRUPT_USED, Transport};
use crate::state::{DeviceState, Misfit, QueueState};
use crate::virtio::queue::{DeviceQueue, QueueError, QueueSetup};
use denali_abi::virtio as abi;
use vm_memory::GuestMemory;

/// Bits of the status register, each with those that are set before it.
const STATUS_ORDER: [(u32, u32); 6] = [
    (abi::STATUS_ACKNOWLEDGE, 0),
    (abi::STATUS_DRIVER, abi::STATUS_ACKNOWLEDGE),
    (abi::STATUS_FEATURES_OK, abi::STATUS_DRIVER),
    (abi::STATUS_DRIVER_OK, abi::STATUS_FEATURES_OK),
    (abi::STATUS_NEEDS_RESET, abi::STATUS_DRIVER_OK),
    (abi::STATUS_FAILED, 0),
];

impl<M: GuestMemory> Transport<M> {
    /// Why it cannot be saved now, as what follows "the device".
    pub(crate) fn busy(&mut self) -> Option<&'static str> {
        self.device.busy()
    }

    /// Brings the device to rest, which waits for a bounded time, and saves it. It can go on afterwards.
    ///
    /// # Errors
    /// When it does not come to rest, as what follows "the device". It goes on.
    pub(crate) fn save(&mut self, memory: &M) -> Result<DeviceState, &'static str> {
        self.settle(memory);
        let outstanding = self.queues.iter().any(|queue| queue.outstanding() > 0);
        if outstanding || self.resetting || !self.device.at_rest() {
            return Err("has requests in flight that do not complete");
        }
        let kind = self.device.save().ok_or("cannot be saved")?;
        let position = |number| self.queues.get(number).and_then(DeviceQueue::position);
        let queue = |(number, setup)| queue_state(setup, position(number));
        Ok(DeviceState {
            status: self.status,
            device_features_select: self.device_features_select,
            driver_features_select: self.driver_features_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            interrupt_status: self.interrupt_status,
            config_generation: self.config_generation,
            config: self.device.config().to_vec(),
            queues: self.setups.iter().enumerate().map(queue).collect(),
            kind,
        })
    }

    /// Completes what is under way, as far as that is possible.
    fn settle(&mut self, memory: &M) {
        if self.running() {
            if self.settle_queues(memory).is_ok() {
                return;
            }
            self.give_up();
        }
        self.queues.clear();
        // There are no queues that could be broken.
        let _ = self.device.settle(&mut [], memory);
        if self.resetting && self.device.at_rest() {
            self.reset();
        }
    }

    /// The same for a device that runs; the driver is told of everything it does not know.
    fn settle_queues(&mut self, memory: &M) -> Result<(), QueueError> {
        self.device.settle(&mut self.queues, memory)?;
        let mut interrupt = false;
        for queue in &mut self.queues {
            interrupt |= queue.wants_interrupt(memory)?;
            if queue.outstanding() == 0 {
                queue.check_rings(memory)?;
            }
        }
        if interrupt {
            self.raise(INTERRUPT_USED);
        }
        Ok(())
    }

    /// Has a device that was just attached go on where another was saved. The driver is told again of what
    /// it has not acknowledged, and of a configuration space that is not what it was.
    ///
    /// # Errors
    /// When the state does not fit; then the device is to be [reset](Transport::reset).
    pub(crate) fn restore(&mut self, state: &DeviceState, memory: &M) -> Result<(), Misfit> {
        self.check(state)?;
        self.status = state.status;
        self.device_features_select = state.device_features_select;
        self.driver_features_select = state.driver_features_select;
        self.driver_features = state.driver_features;
        self.queue_select = state.queue_select;
        self.config_generation = state.config_generation;
        self.setups = state.queues.iter().map(setup).collect();
        self.queues = self.resumed_queues(state, memory)?;
        self.device.restore(&state.kind)?;
        if self.has(abi::STATUS_DRIVER_OK) {
            self.device.activate(self.driver_features);
        }
        if state.interrupt_status != 0 {
            self.raise(state.interrupt_status);
        }
        if self.device.config() != state.config {
            self.reconfigured();
        }
        Ok(())
    }

    /// Checks what can be checked without guest memory.
    fn check(&self, state: &DeviceState) -> Result<(), Misfit> {
        if state.kind.kind() != self.device.kind() {
            return Err(Misfit::kind(&state.kind, self.device.kind()));
        }
        let (status, interrupts) = (state.status, state.interrupt_status);
        if !is_possible(status) || interrupts & !(INTERRUPT_USED | INTERRUPT_CONFIG) != 0 {
            return Err(Misfit::Status { status, interrupts });
        }
        let agreed = status & abi::STATUS_FEATURES_OK != 0;
        if agreed && !self.acceptable(state.driver_features) {
            return Err(Misfit::Features(state.driver_features & !self.offered()));
        }
        let (saved, attached) = (state.queues.len(), self.setups.len());
        if saved != attached {
            return Err(Misfit::Queues { saved, attached });
        }
        let (saved, attached) = (state.config.len(), self.device.config().len());
        if saved != attached {
            return Err(Misfit::Config { saved, attached });
        }
        Ok(())
    }

    /// The queues that were at work; none if the device had not begun, or had stopped.
    fn resumed_queues(&self, state: &DeviceState, memory: &M) -> Result<Vec<DeviceQueue>, Misfit> {
        let at_work = |queue: &QueueState| queue.position.is_some();
        let begun = state.queues.iter().any(at_work);
        let expected = |queue: &QueueState| begun && self.running() && queue.ready;
        if let Some(queue) = state.queues.iter().position(|queue| at_work(queue) != expected(queue))
        {
            return Err(Misfit::Position(queue));
        }
        if !begun {
            return Ok(Vec::new());
        }
        let sizes = self.device.queue_sizes().iter();
        let queues = sizes.zip(&state.queues).enumerate().map(|(number, (&size_max, queue))| {
            let Some(position) = queue.position else { return Ok(DeviceQueue::unused()) };
            DeviceQueue::resume(memory, size_max, &setup(queue), self.driver_features, position)
                .map_err(|error| Misfit::Queue { queue: number, error })
        });
        queues.collect()
    }
}

/// Whether drivers and devices can have brought a status about.
fn is_possible(status: u32) -> bool {
    let known = STATUS_ORDER.iter().fold(0, |known, (bit, _)| known | bit);
    let in_order = |&(bit, before): &(u32, u32)| status & bit == 0 || status & before == before;
    status & !known == 0 && STATUS_ORDER.iter().all(in_order)
}

fn queue_state(setup: &QueueSetup, position: Option<u16>) -> QueueState {
    let QueueSetup { size, ready, descriptors, available, used } = *setup;
    QueueState { size, ready, descriptors, available, used, position }
}

fn setup(state: &QueueState) -> QueueSetup {
    let QueueState { size, ready, descriptors, available, used, .. } = *state;
    QueueSetup { size, ready, descriptors, available, used }
}
