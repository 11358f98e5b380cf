//! The transport "mmio": the same register file in memory, as an exit of a virtual CPU tells of accesses.

use super::transport::Transport;
use denali_abi::virtio as abi;
use vm_memory::GuestMemory;

/// Bytes of guest addresses that a device takes: the register file, and configuration space behind it.
pub const MMIO_SIZE: u64 = 0x200;

impl<M: GuestMemory> Transport<M> {
    /// The guest loads from `offset` of the device: fills `data`, which is 1, 2, 4 or 8 bytes. Zeros where
    /// nothing is; registers have 4 bytes, the configuration space is read in any of these.
    pub fn mmio_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some(offset) = place(offset, data.len()) else { return };
        if data.len() == 8 {
            if offset >= abi::CONFIG {
                let (low, high) = data.split_at_mut(4);
                low.copy_from_slice(&self.read(offset, 4).to_le_bytes());
                high.copy_from_slice(&self.read(offset + 4, 4).to_le_bytes());
            }
            return;
        }
        let value = self.read(offset, data.len()).to_le_bytes();
        data.copy_from_slice(&value[..data.len()]);
    }

    /// The guest stores `data` at `offset` of the device; ignored where nothing is. True: the device
    /// wants to be serviced now.
    pub fn mmio_write(&mut self, offset: u64, data: &[u8]) -> bool {
        let (Some(offset), Ok(value)) = (place(offset, data.len()), data.try_into()) else {
            return false;
        };
        self.write(offset, 4, u32::from_le_bytes(value))
    }
}

/// The offset, if an access of this width may be there.
fn place(offset: u64, width: usize) -> Option<u16> {
    let aligned = matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width as u64);
    (aligned && offset < MMIO_SIZE).then_some(offset as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBackend, BlockConfig, BlockDevice, Failed, Geometry, Operation};
    use crate::block::{RequestId, Wake};
    use crate::testing::{CountedLine, DriverQueue, Memory, Registers, Rings, memory};
    use crate::virtio::HostSlice;
    use vm_memory::{Bytes, GuestAddress};

    /// A disk whose requests all succeed at once.
    #[derive(Default)]
    struct Empty(Vec<RequestId>);

    impl BlockBackend for Empty {
        fn geometry(&self) -> Geometry {
            Geometry {
                sectors: 0x1_2345_6789,
                block_size: 512,
                read_only: false,
                discard: false,
                write_zeroes: false,
            }
        }
        unsafe fn submit(&mut self, id: RequestId, _: Operation, _: &[HostSlice]) {
            self.0.push(id);
        }
        fn start(&mut self) {}
        fn completed(&mut self, done: &mut dyn FnMut(RequestId, Result<(), Failed>)) {
            self.0.drain(..).for_each(|id| done(id, Ok(())));
        }
        fn wake(&mut self, _: Wake) {}
        fn drain(&mut self) -> bool {
            true
        }
        fn counters(&self) -> Vec<(&'static str, u64)> {
            Vec::new()
        }
    }

    /// The register file as a driver reaches it by loads and stores.
    struct Mapped(Transport<Memory>);

    impl Registers for Mapped {
        fn put(&mut self, offset: u16, value: u32) {
            self.0.mmio_write(offset.into(), &value.to_le_bytes());
        }
        fn get(&self, offset: u16) -> u32 {
            let mut data = [0xee; 4];
            self.0.mmio_read(offset.into(), &mut data);
            u32::from_le_bytes(data)
        }
    }

    fn mapped() -> Mapped {
        let device = BlockDevice::new(BlockConfig::new("", false), Empty::default());
        Mapped(Transport::new(Box::new(device), Box::new(CountedLine::default())))
    }

    #[test]
    fn a_driver_works_a_device_by_loads_and_stores() {
        let (mut device, memory) = (mapped(), memory());
        assert_eq!((device.get(abi::MAGIC_VALUE), device.get(abi::VERSION)), (abi::MAGIC, 2));
        assert_eq!(device.negotiate(abi::FEATURE_VERSION_1), 11);
        let mut queue = DriverQueue::new(Rings::standard(0, 8));
        device.set_up(0, &queue.rings);
        assert!(device.0.mmio_write(abi::STATUS.into(), &15_u32.to_le_bytes()));
        memory.write_obj(u64::from(abi::BLOCK_REQUEST_FLUSH), GuestAddress(0x10_0000)).unwrap();
        queue.descriptor(&memory, 0, (0x10_0000, 16, 1, 1));
        queue.descriptor(&memory, 1, (0x11_0000, 1, 2, 0));
        queue.offer(&memory, 0);
        assert!(device.0.mmio_write(abi::QUEUE_NOTIFY.into(), &0_u32.to_le_bytes()));
        assert!(device.0.service(&memory, 1).raised);
        assert_eq!(queue.next_used(&memory), Some((0, 1)));
        assert_eq!(device.get(abi::INTERRUPT_STATUS), 1);
        device.put(abi::INTERRUPT_ACK, 1);
        assert_eq!(device.get(abi::INTERRUPT_STATUS), 0);
    }

    #[test]
    fn configuration_is_read_in_any_width_and_registers_in_one() {
        let device = mapped();
        let read = |offset: u16, width: usize| {
            let mut data = [0xee; 8];
            device.0.mmio_read(offset.into(), &mut data[..width]);
            data[width..].fill(0);
            u64::from_le_bytes(data)
        };
        assert_eq!(read(abi::CONFIG, 8), 0x1_2345_6789);
        assert_eq!((read(abi::CONFIG, 4), read(abi::CONFIG + 4, 4)), (0x2345_6789, 1));
        assert_eq!((read(abi::CONFIG + 2, 2), read(abi::CONFIG + 3, 1)), (0x2345, 0x23));
        assert_eq!((read(0x1f8, 8), read(0x1fc, 4)), (0, 0), "behind the configuration");
        assert_eq!((read(abi::MAGIC_VALUE, 8), read(abi::MAGIC_VALUE, 2)), (0, 0));
        assert_eq!(read(0x0b0, 4), 0xffff_ffff, "no shared memory");
    }

    #[test]
    fn odd_accesses_mean_nothing() {
        let mut device = mapped();
        for (offset, length) in [(0x200, 4), (u64::MAX, 4), (0x72, 4), (0x70, 3), (0x70, 0)] {
            let mut data = vec![0xee; length];
            device.0.mmio_read(offset, &mut data);
            assert!(data.iter().all(|&byte| byte == 0));
            assert!(!device.0.mmio_write(offset, &vec![1; length]));
        }
        for length in [1, 2, 8] {
            assert!(!device.0.mmio_write(abi::STATUS.into(), &vec![1; length]));
        }
        assert_eq!(device.get(abi::STATUS), 0);
    }
}
