//! The bus: finds the device an access means, services all devices in one sweep, and saves them.

use crate::Interrupt;
use crate::state::{BusState, NotAtRest, STATE_VERSION, StateError};
use crate::virtio::{Transport, VirtioDevice};
use denali_abi::doorbell::DEVICES_MAX;
use vm_memory::GuestMemory;

/// All devices of one guest, by their numbers.
pub struct Bus<M: GuestMemory> {
    devices: Vec<Transport<M>>,
}

/// What a sweep over all devices has left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// At least one interrupt was raised.
    pub raised: bool,
    /// A device stopped at its budget, or was to bring one thing only: call again before sleeping.
    pub more: bool,
}

/// The guest has as many devices as it can have ([`DEVICES_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {DEVICES_MAX} devices")]
pub struct BusFull;

impl<M: GuestMemory> Default for Bus<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: GuestMemory> Bus<M> {
    /// A bus with no device.
    #[must_use]
    pub fn new() -> Self {
        Self { devices: Vec::new() }
    }

    /// The number the next attached device gets, so that its interrupt line can be made first.
    #[must_use]
    pub fn next_number(&self) -> usize {
        self.devices.len()
    }

    /// Attaches a device, which raises `interrupt`; returns its number.
    ///
    /// # Errors
    /// When the bus is full.
    pub fn attach(
        &mut self,
        device: Box<dyn VirtioDevice<M>>,
        interrupt: Box<dyn Interrupt>,
    ) -> Result<usize, BusFull> {
        let number = self.devices.len();
        if number >= DEVICES_MAX {
            return Err(BusFull);
        }
        self.devices.push(Transport::new(device, interrupt));
        Ok(number)
    }

    /// Turns batching off, or on again, for all devices that are attached: each sweep brings the guest at
    /// most one frame, completed request or buffer of input from each device, and says that there is more.
    pub fn deliver_singly(&mut self, singly: bool) {
        for device in &mut self.devices {
            device.deliver_singly(singly);
        }
    }

    /// Reads `width` bytes (1, 2 or 4) at `offset` of a device's register file; 0 where nothing is.
    #[must_use]
    pub fn read(&self, device: usize, offset: u16, width: usize) -> u32 {
        self.devices.get(device).map_or(0, |device| device.read(offset, width))
    }

    /// Writes `width` bytes (1, 2 or 4) at `offset` of a device's register file; ignored where
    /// nothing is. True: the device wants [`Bus::service`] now.
    pub fn write(&mut self, device: usize, offset: u16, width: usize, value: u32) -> bool {
        self.devices.get_mut(device).is_some_and(|device| device.write(offset, width, value))
    }

    /// The guest rang the doorbell of a device. True: the device wants [`Bus::service`] now.
    pub fn notify(&mut self, device: usize, queue: u16) -> bool {
        self.devices.get_mut(device).is_some_and(|device| device.notify(queue))
    }

    /// Takes what guest and back ends have, in every queue of every device, and raises interrupts.
    /// `now_ns` is monotonic time.
    pub fn service(&mut self, memory: &M, now_ns: u64) -> Service {
        let mut total = Service::default();
        for device in &mut self.devices {
            let done = device.service(memory, now_ns);
            total.raised |= done.raised;
            total.more |= done.more;
        }
        total
    }

    /// When [`Bus::service`] must be called next at the latest though nothing happens, in
    /// nanoseconds of monotonic time.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.devices.iter().filter_map(Transport::deadline).min()
    }

    /// Has all devices give back memory that they keep for what may come soon, as nothing will for a while.
    pub fn tidy(&mut self) {
        self.devices.iter_mut().for_each(Transport::tidy);
    }

    /// Saves all devices, so that others made like them go on elsewhere, with the same guest memory, by
    /// [`Bus::restore`]. What is under way is completed first, for which it waits two seconds for each disk
    /// at most; nothing new is begun. Interrupts may be raised. The devices can go on afterwards.
    ///
    /// # Errors
    /// When something is under way that cannot be saved. The devices go on, and nothing is lost.
    pub fn save(&mut self, memory: &M) -> Result<BusState, NotAtRest> {
        for (device, transport) in self.devices.iter_mut().enumerate() {
            if let Some(why) = transport.busy() {
                return Err(NotAtRest { device, why });
            }
        }
        self.save_cutting(memory)
    }

    /// As [`Bus::save`], but whoever is at work through a device's back end is not waited for: where the
    /// devices go on, such connections are cut, as the guest will find.
    ///
    /// # Errors
    /// When a device cannot be saved at all, or a disk does not finish. The devices go on, and nothing is lost.
    pub fn save_cutting(&mut self, memory: &M) -> Result<BusState, NotAtRest> {
        let devices = self.devices.iter_mut().enumerate();
        let devices = devices.map(|(device, transport)| {
            transport.save(memory).map_err(|why| NotAtRest { device, why })
        });
        Ok(BusState { version: STATE_VERSION, devices: devices.collect::<Result<_, _>>()? })
    }

    /// Has devices that were just attached go on where others were saved, with the same guest memory. The
    /// state is not believed: whatever it says, devices touch no more than a driver could make them touch.
    /// Interrupts are raised where the guest may have missed one. Then call [`Bus::service`] before
    /// sleeping: what waits in rings and back ends is found by that.
    ///
    /// # Errors
    /// When the state does not fit. All devices are then as after a reset.
    pub fn restore(&mut self, state: &BusState, memory: &M) -> Result<(), StateError> {
        if state.version != STATE_VERSION {
            return Err(StateError::Version(state.version));
        }
        let (saved, attached) = (state.devices.len(), self.devices.len());
        if saved != attached {
            return Err(StateError::Devices { saved, attached });
        }
        let mut devices = self.devices.iter_mut().zip(&state.devices).enumerate();
        let restored = devices.try_for_each(|(device, (transport, state))| {
            let restored = transport.restore(state, memory);
            restored.map_err(|misfit| StateError::Device { device, misfit })
        });
        if restored.is_err() {
            self.devices.iter_mut().for_each(Transport::reset);
        }
        restored
    }

    /// Counters of a device, by name: those of the transport, then those of the device and its back
    /// end. Empty for a number without a device.
    #[must_use]
    pub fn counters(&self, device: usize) -> Vec<(&'static str, u64)> {
        self.devices.get(device).map_or_else(Vec::new, Transport::counters)
    }
}
