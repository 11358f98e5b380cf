//! The transport: a device's register file, its status machine, and when it is serviced.

mod state;

use super::device::VirtioDevice;
use super::queue::{DeviceQueue, QueueError, QueueSetup};
use super::registers::{Half, Register, Ring};
use crate::Interrupt;
use crate::bus::Service;
use denali_abi::virtio as abi;
use vm_memory::GuestMemory;

/// Value of the vendor register: "DNLI".
const VENDOR: u32 = u32::from_le_bytes(*b"DNLI");

/// Features of rings and transport, offered by every device.
const TRANSPORT_FEATURES: u64 =
    abi::FEATURE_VERSION_1 | abi::FEATURE_INDIRECT_DESC | abi::FEATURE_EVENT_IDX;

/// Bit of the interrupt status: buffers were used.
const INTERRUPT_USED: u32 = 1;
/// Bit of the interrupt status: the configuration, or `NEEDS_RESET`, changed.
const INTERRUPT_CONFIG: u32 = 2;

/// One device and all a driver can write about it.
pub struct Transport<M: GuestMemory> {
    device: Box<dyn VirtioDevice<M>>,
    interrupt: Box<dyn Interrupt>,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    setups: Vec<QueueSetup>,
    /// The queues as validated when the driver became ready; none before.
    queues: Vec<DeviceQueue>,
    interrupt_status: u32,
    /// Changes with the configuration space.
    config_generation: u32,
    /// The driver has asked for a reset, and the device is still at work.
    resetting: bool,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    notifications: u64,
    interrupts: u64,
    resets: u64,
    broken: u64,
}

impl<M: GuestMemory> Transport<M> {
    /// A device as after a reset.
    pub fn new(device: Box<dyn VirtioDevice<M>>, interrupt: Box<dyn Interrupt>) -> Self {
        let setups = fresh_setups(device.queue_sizes());
        Self {
            device,
            interrupt,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            setups,
            queues: Vec::new(),
            interrupt_status: 0,
            config_generation: 0,
            resetting: false,
            counters: Counters::default(),
        }
    }

    /// See [`VirtioDevice::deliver_singly`].
    pub fn deliver_singly(&mut self, singly: bool) {
        self.device.deliver_singly(singly);
    }

    /// Reads `width` bytes of the register file; 0 where nothing is.
    #[must_use]
    pub fn read(&self, offset: u16, width: usize) -> u32 {
        if offset >= abi::CONFIG {
            return read_config(self.device.config(), usize::from(offset - abi::CONFIG), width);
        }
        match Register::at(offset) {
            Some(register) if width == 4 => self.read_register(register),
            _ => 0,
        }
    }

    fn read_register(&self, register: Register) -> u32 {
        match register {
            Register::MagicValue => abi::MAGIC,
            Register::Version => 2,
            Register::DeviceId => self.device.kind(),
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => Half::select(self.offered(), self.device_features_select),
            Register::QueueSizeMax => self.selected_size_max(),
            Register::QueueReady => self.selected().map_or(0, |setup| u32::from(setup.ready)),
            Register::InterruptStatus => self.interrupt_status,
            Register::Status => self.status,
            Register::SharedMemory => u32::MAX,
            Register::ConfigGeneration => self.config_generation,
            _ => 0,
        }
    }

    /// Writes `width` bytes of the register file; ignored where nothing is, or when it is not the
    /// time. True: the device wants to be serviced now.
    pub fn write(&mut self, offset: u16, width: usize, value: u32) -> bool {
        match Register::at(offset) {
            Some(register) if width == 4 => self.write_register(register, value),
            _ => false,
        }
    }

    fn write_register(&mut self, register: Register, value: u32) -> bool {
        match register {
            Register::DeviceFeaturesSelect => self.device_features_select = value,
            Register::DriverFeaturesSelect => self.driver_features_select = value,
            Register::DriverFeatures => self.set_driver_features(value),
            Register::QueueSelect => self.queue_select = value,
            Register::QueueSize | Register::QueueReady | Register::QueueAddress(..) => {
                self.set_up_queue(register, value);
            }
            Register::QueueNotify => return u16::try_from(value).is_ok_and(|n| self.notify(n)),
            Register::InterruptAck => self.interrupt_status &= !value,
            Register::Status => return self.set_status(value),
            _ => {}
        }
        false
    }

    fn offered(&self) -> u64 {
        self.device.features() | (TRANSPORT_FEATURES & self.device.ring_features())
    }

    fn selected(&self) -> Option<&QueueSetup> {
        self.setups.get(self.queue_select as usize)
    }

    fn selected_size_max(&self) -> u32 {
        self.device.queue_sizes().get(self.queue_select as usize).map_or(0, |&size| size.into())
    }

    /// The driver writes features between `DRIVER` and `FEATURES_OK`.
    fn set_driver_features(&mut self, value: u32) {
        let negotiating = self.has(abi::STATUS_DRIVER) && !self.has(abi::STATUS_FEATURES_OK);
        let half = match self.driver_features_select {
            0 => Half::Low,
            1 => Half::High,
            // Bits above 63 are not offered; the driver may write zeros there.
            _ => return,
        };
        if negotiating {
            half.replace(&mut self.driver_features, value);
        }
    }

    /// The driver sets queues up between `FEATURES_OK` and `DRIVER_OK`; it is believed at `DRIVER_OK`.
    fn set_up_queue(&mut self, register: Register, value: u32) {
        if !self.has(abi::STATUS_FEATURES_OK) || self.has(abi::STATUS_DRIVER_OK) {
            return;
        }
        let Some(setup) = self.setups.get_mut(self.queue_select as usize) else { return };
        match register {
            Register::QueueReady => setup.ready = value == 1,
            // A ready queue is not changed under the device.
            _ if setup.ready => {}
            Register::QueueSize => setup.size = value,
            Register::QueueAddress(Ring::Descriptors, half) => {
                half.replace(&mut setup.descriptors, value);
            }
            Register::QueueAddress(Ring::Available, half) => {
                half.replace(&mut setup.available, value);
            }
            Register::QueueAddress(Ring::Used, half) => half.replace(&mut setup.used, value),
            _ => {}
        }
    }

    fn has(&self, bit: u32) -> bool {
        self.status & bit != 0
    }

    /// Takes the status bits whose time has come, in their order; bits are cleared by a reset only.
    fn set_status(&mut self, value: u32) -> bool {
        if value == 0 {
            self.counters.resets += 1;
            self.reset();
            return false;
        }
        if self.has(abi::STATUS_NEEDS_RESET) {
            return false;
        }
        let new = value & !self.status;
        self.status |= new & (abi::STATUS_ACKNOWLEDGE | abi::STATUS_FAILED);
        if self.has(abi::STATUS_ACKNOWLEDGE) {
            self.status |= new & abi::STATUS_DRIVER;
        }
        if self.has(abi::STATUS_DRIVER) && self.acceptable(self.driver_features) {
            self.status |= new & abi::STATUS_FEATURES_OK;
        }
        if self.has(abi::STATUS_FEATURES_OK) && new & abi::STATUS_DRIVER_OK != 0 {
            self.status |= abi::STATUS_DRIVER_OK;
            self.device.activate(self.driver_features);
            return true;
        }
        false
    }

    /// Whether a driver may agree to these features.
    fn acceptable(&self, features: u64) -> bool {
        let unoffered = features & !self.offered();
        unoffered == 0 && features & abi::FEATURE_VERSION_1 != 0
    }

    /// A device that is still at work keeps the driver waiting: the reset is over when the status reads
    /// as 0 (virtio 1.2, section 2.4.1), and until then it says that the device needs one.
    pub(crate) fn reset(&mut self) {
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        self.setups = fresh_setups(self.device.queue_sizes());
        self.queues.clear();
        self.interrupt_status = 0;
        self.device.reset();
        self.resetting = !self.device.at_rest();
        self.status = if self.resetting { abi::STATUS_NEEDS_RESET } else { 0 };
    }

    /// The driver says that a queue has new chains. True: there is such a queue at work.
    pub fn notify(&mut self, queue: u16) -> bool {
        self.counters.notifications += 1;
        self.running() && usize::from(queue) < self.setups.len()
    }

    /// The driver is ready, and neither side has given up.
    fn running(&self) -> bool {
        self.has(abi::STATUS_DRIVER_OK)
            && !self.has(abi::STATUS_NEEDS_RESET)
            && !self.has(abi::STATUS_FAILED)
    }

    /// Lets the device work, and raises its interrupt where the driver wants it.
    pub fn service(&mut self, memory: &M, now_ns: u64) -> Service {
        if !self.running() {
            self.device.idle(now_ns);
            if self.resetting && self.device.at_rest() {
                self.reset();
            }
            return Service::default();
        }
        match self.work(memory, now_ns) {
            Ok(service) => service,
            Err(_) => self.give_up(),
        }
    }

    fn work(&mut self, memory: &M, now_ns: u64) -> Result<Service, QueueError> {
        if self.queues.is_empty() {
            self.queues = self.validated_queues(memory)?;
        }
        let progress = self.device.service(&mut self.queues, memory, now_ns)?;
        if progress.interrupt {
            self.raise(INTERRUPT_USED);
        }
        if progress.reconfigured {
            self.reconfigured();
        }
        Ok(Service { raised: progress.interrupt || progress.reconfigured, more: progress.more })
    }

    /// The configuration space is another than it was: a driver that is ready is told to read it again.
    fn reconfigured(&mut self) {
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.has(abi::STATUS_DRIVER_OK) {
            self.raise(INTERRUPT_CONFIG);
        }
    }

    fn validated_queues(&self, memory: &M) -> Result<Vec<DeviceQueue>, QueueError> {
        let sizes = self.device.queue_sizes().iter();
        let queues = sizes.zip(&self.setups).map(|(&size_max, setup)| {
            DeviceQueue::new(memory, size_max, setup, self.driver_features)
        });
        queues.collect()
    }

    /// The driver has broken a queue: touch none of them until it resets the device.
    fn give_up(&mut self) -> Service {
        self.counters.broken += 1;
        self.status |= abi::STATUS_NEEDS_RESET;
        self.queues.clear();
        self.raise(INTERRUPT_CONFIG);
        Service { raised: true, more: false }
    }

    fn raise(&mut self, reason: u32) {
        self.interrupt_status |= reason;
        self.counters.interrupts += 1;
        self.interrupt.raise();
    }

    /// When the device must be serviced next at the latest, in nanoseconds of monotonic time.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.device.deadline()
    }

    /// See [`VirtioDevice::tidy`].
    pub fn tidy(&mut self) {
        self.device.tidy();
    }

    /// Counters by name: the transport's, then the device's.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![
            ("notifications", self.counters.notifications),
            ("interrupts", self.counters.interrupts),
            ("resets", self.counters.resets),
            ("broken_queues", self.counters.broken),
        ];
        counters.extend(self.device.counters());
        counters
    }
}

fn fresh_setups(sizes: &[u16]) -> Vec<QueueSetup> {
    sizes.iter().map(|&size| QueueSetup { size: size.into(), ..QueueSetup::default() }).collect()
}

/// `width` bytes of the configuration space, zeros after its end; 0 for widths there are not.
fn read_config(config: &[u8], offset: usize, width: usize) -> u32 {
    if !matches!(width, 1 | 2 | 4) {
        return 0;
    }
    let mut value = [0; 4];
    for (index, byte) in value[..width].iter_mut().enumerate() {
        *byte = config.get(offset + index).copied().unwrap_or(0);
    }
    u32::from_le_bytes(value)
}
