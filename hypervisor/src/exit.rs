//! Why a guest came out: the same few reasons on every back end.

use denali_arch::space::AddressSpace;

/// Why [`Vcpu::run`](crate::Vcpu::run) returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest executed OUT.
    Out {
        /// The I/O port.
        port: u16,
        /// AL, AX or EAX, zero-extended.
        data: u32,
        /// How many bytes of it count.
        width: Width,
    },
    /// The guest executed IN and waits for [`Vcpu::complete_in`](crate::Vcpu::complete_in).
    In {
        /// The I/O port.
        port: u16,
        /// How many bytes it reads.
        width: Width,
    },
    /// The guest caused a processor exception.
    Fault(Fault),
    /// A signal reached the monitor's thread; the guest can be continued.
    Interrupted,
    /// The guest did something after which it cannot be continued; the text says what.
    Lost(String),
}

/// Bytes of an I/O access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// AL.
    Byte,
    /// AX.
    Word,
    /// EAX.
    Double,
}

impl Width {
    /// The width of `bytes` bytes, where there is one.
    #[must_use]
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Double),
            _ => None,
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Double => 4,
        }
    }

    /// The low bytes of `value` that an access of this width transfers.
    #[must_use]
    pub fn truncate(self, value: u32) -> u32 {
        match self {
            Self::Byte => value & 0xff,
            Self::Word => value & 0xffff,
            Self::Double => value,
        }
    }
}

/// A processor exception, in the form both back ends give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Exception vector, 0 to 31.
    pub vector: u8,
    /// The processor's error code, 0 where the vector has none. For page faults, bit 0 (present)
    /// says whether the address map grants the guest any access there, and only bits 0 (present),
    /// 1 (write), 2 (user, always set) and 4 (instruction fetch) are kept.
    pub error_code: u64,
    /// The address whose access faulted, for page faults; 0 otherwise.
    pub address: u64,
}

impl Fault {
    /// The fault in its one form: what a back end's processor tables, or a kernel's lazy mapping, say
    /// of presence is replaced by what the address map says.
    #[must_use]
    pub fn normalised(vector: u8, error_code: u64, address: u64, space: &AddressSpace) -> Self {
        const WRITE_OR_FETCH: u64 = 1 << 1 | 1 << 4;
        const USER: u64 = 1 << 2;
        if vector != PAGE_FAULT {
            return Self { vector, error_code, address: 0 };
        }
        let present = u64::from(space.access_at(address).is_some());
        Self { vector, error_code: error_code & WRITE_OR_FETCH | USER | present, address }
    }
}

/// Vector of the page fault.
pub const PAGE_FAULT: u8 = 14;
