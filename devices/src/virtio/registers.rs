//! The register file: which register an offset means. The layout is that of virtio-mmio version 2.

use denali_abi::virtio as abi;

/// A register that can be read or written, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    MagicValue,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSelect,
    DriverFeatures,
    DriverFeaturesSelect,
    QueueSelect,
    QueueSizeMax,
    QueueSize,
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAck,
    Status,
    QueueAddress(Ring, Half),
    ConfigGeneration,
}

/// One of the three parts of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Descriptors,
    Available,
    Used,
}

/// Half of a 64-bit address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Low,
    High,
}

impl Half {
    /// Replaces this half of `address`.
    pub fn replace(self, address: &mut u64, value: u32) {
        let value = u64::from(value);
        *address = match self {
            Self::Low => (*address & !0xffff_ffff) | value,
            Self::High => (*address & 0xffff_ffff) | value << 32,
        };
    }

    /// The half of `bits` that a select register's value means; no half is 0.
    pub fn select(bits: u64, select: u32) -> u32 {
        match select {
            0 => bits as u32,
            1 => (bits >> 32) as u32,
            _ => 0,
        }
    }
}

impl Register {
    /// The register at `offset`, if there is one.
    pub fn at(offset: u16) -> Option<Self> {
        Some(match offset {
            abi::MAGIC_VALUE => Self::MagicValue,
            abi::VERSION => Self::Version,
            abi::DEVICE_ID => Self::DeviceId,
            abi::VENDOR_ID => Self::VendorId,
            abi::DEVICE_FEATURES => Self::DeviceFeatures,
            abi::DEVICE_FEATURES_SEL => Self::DeviceFeaturesSelect,
            abi::DRIVER_FEATURES => Self::DriverFeatures,
            abi::DRIVER_FEATURES_SEL => Self::DriverFeaturesSelect,
            abi::QUEUE_SEL => Self::QueueSelect,
            abi::QUEUE_SIZE_MAX => Self::QueueSizeMax,
            abi::QUEUE_SIZE => Self::QueueSize,
            abi::QUEUE_READY => Self::QueueReady,
            abi::QUEUE_NOTIFY => Self::QueueNotify,
            abi::INTERRUPT_STATUS => Self::InterruptStatus,
            abi::INTERRUPT_ACK => Self::InterruptAck,
            abi::STATUS => Self::Status,
            abi::QUEUE_DESC_LOW => Self::QueueAddress(Ring::Descriptors, Half::Low),
            abi::QUEUE_DESC_HIGH => Self::QueueAddress(Ring::Descriptors, Half::High),
            abi::QUEUE_DRIVER_LOW => Self::QueueAddress(Ring::Available, Half::Low),
            abi::QUEUE_DRIVER_HIGH => Self::QueueAddress(Ring::Available, Half::High),
            abi::QUEUE_DEVICE_LOW => Self::QueueAddress(Ring::Used, Half::Low),
            abi::QUEUE_DEVICE_HIGH => Self::QueueAddress(Ring::Used, Half::High),
            abi::CONFIG_GENERATION => Self::ConfigGeneration,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_between_registers_mean_nothing() {
        let known = (0..abi::CONFIG).filter(|&offset| Register::at(offset).is_some()).count();
        assert_eq!(known, 23);
        assert_eq!(Register::at(0x001), None);
        assert_eq!(Register::at(abi::CONFIG), None);
    }

    #[test]
    fn halves_make_a_whole() {
        let mut address = 0;
        Half::High.replace(&mut address, 0x1234_5678);
        Half::Low.replace(&mut address, 0x9abc_def0);
        assert_eq!(address, 0x1234_5678_9abc_def0);
        assert_eq!(Half::select(address, 0), 0x9abc_def0);
        assert_eq!(Half::select(address, 1), 0x1234_5678);
        assert_eq!(Half::select(address, 2), 0);
    }
}
