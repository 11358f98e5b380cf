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
    /// Length and base of the selected shared memory region, of which there is none.
    SharedMemory,
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

/// Bytes of a register.
const WORD: u16 = 4;

/// Bytes of the register file before the device's configuration space.
const SIZE: u16 = 0x100;

/// The layout, without gaps: bytes, and the register they are. Offsets follow from what is before.
#[rustfmt::skip]
const LAYOUT: &[(u16, Option<Register>)] = &[
    (4,    Some(Register::MagicValue)),
    (4,    Some(Register::Version)),
    (4,    Some(Register::DeviceId)),
    (4,    Some(Register::VendorId)),
    (4,    Some(Register::DeviceFeatures)),
    (4,    Some(Register::DeviceFeaturesSelect)),
    (8,    None),
    (4,    Some(Register::DriverFeatures)),
    (4,    Some(Register::DriverFeaturesSelect)),
    (8,    None),
    (4,    Some(Register::QueueSelect)),
    (4,    Some(Register::QueueSizeMax)),
    (4,    Some(Register::QueueSize)),
    (8,    None),
    (4,    Some(Register::QueueReady)),
    (8,    None),
    (4,    Some(Register::QueueNotify)),
    (12,   None),
    (4,    Some(Register::InterruptStatus)),
    (4,    Some(Register::InterruptAck)),
    (8,    None),
    (4,    Some(Register::Status)),
    (12,   None),
    (4,    Some(Register::QueueAddress(Ring::Descriptors, Half::Low))),
    (4,    Some(Register::QueueAddress(Ring::Descriptors, Half::High))),
    (8,    None),
    (4,    Some(Register::QueueAddress(Ring::Available, Half::Low))),
    (4,    Some(Register::QueueAddress(Ring::Available, Half::High))),
    (8,    None),
    (4,    Some(Register::QueueAddress(Ring::Used, Half::Low))),
    (4,    Some(Register::QueueAddress(Ring::Used, Half::High))),
    (8,    None),
    (16,   Some(Register::SharedMemory)),
    (0x3c, None),
    (4,    Some(Register::ConfigGeneration)),
];

/// The register of each word of the register file.
const REGISTERS: [Option<Register>; (SIZE / WORD) as usize] = registers();

const fn registers() -> [Option<Register>; (SIZE / WORD) as usize] {
    let mut registers = [None; (SIZE / WORD) as usize];
    let (mut index, mut word) = (0, 0);
    while index < LAYOUT.len() {
        let (bytes, register) = LAYOUT[index];
        assert!(bytes % WORD == 0, "registers are words");
        let end = word + (bytes / WORD) as usize;
        while word < end {
            registers[word] = register;
            word += 1;
        }
        index += 1;
    }
    assert!(word == registers.len(), "the layout is as long as the register file");
    registers
}

const _: () = assert!(SIZE == abi::CONFIG);

impl Register {
    /// The register at `offset`, if there is one.
    pub fn at(offset: u16) -> Option<Self> {
        let aligned = offset.is_multiple_of(WORD);
        REGISTERS.get(usize::from(offset / WORD)).copied().flatten().filter(|_| aligned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_between_registers_mean_nothing() {
        let known = (0..abi::CONFIG).filter(|&offset| Register::at(offset).is_some()).count();
        assert_eq!(known, 23 + 4);
        assert_eq!(Register::at(0x001), None);
        assert_eq!(Register::at(abi::CONFIG), None);
    }

    #[test]
    fn registers_are_where_the_contract_says() {
        for (offset, register) in [
            (abi::MAGIC_VALUE, Register::MagicValue),
            (abi::VERSION, Register::Version),
            (abi::DEVICE_ID, Register::DeviceId),
            (abi::VENDOR_ID, Register::VendorId),
            (abi::DEVICE_FEATURES, Register::DeviceFeatures),
            (abi::DEVICE_FEATURES_SEL, Register::DeviceFeaturesSelect),
            (abi::DRIVER_FEATURES, Register::DriverFeatures),
            (abi::DRIVER_FEATURES_SEL, Register::DriverFeaturesSelect),
            (abi::QUEUE_SEL, Register::QueueSelect),
            (abi::QUEUE_SIZE_MAX, Register::QueueSizeMax),
            (abi::QUEUE_SIZE, Register::QueueSize),
            (abi::QUEUE_READY, Register::QueueReady),
            (abi::QUEUE_NOTIFY, Register::QueueNotify),
            (abi::INTERRUPT_STATUS, Register::InterruptStatus),
            (abi::INTERRUPT_ACK, Register::InterruptAck),
            (abi::STATUS, Register::Status),
            (abi::QUEUE_DESC_LOW, Register::QueueAddress(Ring::Descriptors, Half::Low)),
            (abi::QUEUE_DESC_HIGH, Register::QueueAddress(Ring::Descriptors, Half::High)),
            (abi::QUEUE_DRIVER_LOW, Register::QueueAddress(Ring::Available, Half::Low)),
            (abi::QUEUE_DRIVER_HIGH, Register::QueueAddress(Ring::Available, Half::High)),
            (abi::QUEUE_DEVICE_LOW, Register::QueueAddress(Ring::Used, Half::Low)),
            (abi::QUEUE_DEVICE_HIGH, Register::QueueAddress(Ring::Used, Half::High)),
            (0x0b0, Register::SharedMemory),
            (abi::CONFIG_GENERATION, Register::ConfigGeneration),
        ] {
            assert_eq!(Register::at(offset), Some(register), "{offset:#x}");
        }
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
