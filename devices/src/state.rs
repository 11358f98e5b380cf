//! What of devices is saved, as data: one process writes it, and another reads it and believes nothing.
//!
//! A state goes with the guest memory that it was saved with, and is restored into devices made anew from the
//! same configuration. Of a device it has what a driver has written, where its queues stand, and what a limit
//! has let through; counters begin anew. It has no chain that is under way: a device is saved at rest, and
//! whatever a driver still offers lies in its rings.

mod error;
#[cfg(test)]
mod tests;

pub use error::{Misfit, NotAtRest, StateError};

use denali_abi::boot::{KIND_BLOCK, KIND_CONSOLE, KIND_ENTROPY, KIND_NET};
use serde::{Deserialize, Serialize};

/// The version of states that are saved and restored here.
pub const STATE_VERSION: u32 = 1;

/// All devices of one guest, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusState {
    pub(crate) version: u32,
    pub(crate) devices: Vec<DeviceState>,
}

/// One device: its registers, its queues, and what is particular to its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceState {
    pub(crate) status: u32,
    pub(crate) device_features_select: u32,
    pub(crate) driver_features_select: u32,
    pub(crate) driver_features: u64,
    pub(crate) queue_select: u32,
    pub(crate) interrupt_status: u32,
    pub(crate) config_generation: u32,
    /// The configuration space as the driver has it: where it differs from the device's that is restored,
    /// the driver is told.
    pub(crate) config: Vec<u8>,
    pub(crate) queues: Vec<QueueState>,
    pub(crate) kind: KindState,
}

/// One queue: what the driver has written about it, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueState {
    pub(crate) size: u32,
    pub(crate) ready: bool,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    /// Chains that were taken and returned so far, modulo 65,536; the driver has been told of all of them.
    /// None where the device has not begun to work on the queue.
    pub(crate) position: Option<u16>,
}

/// What is particular to a kind of device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KindState {
    /// A network card.
    Net(NetState),
    /// A disk.
    Block(BlockState),
    /// A console.
    Console(ConsoleState),
    /// An entropy source.
    Entropy(EntropyState),
}

impl KindState {
    /// The virtio device type.
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Net(_) => KIND_NET,
            Self::Block(_) => KIND_BLOCK,
            Self::Console(_) => KIND_CONSOLE,
            Self::Entropy(_) => KIND_ENTROPY,
        }
    }
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetState {
    pub(crate) mtu: u16,
    pub(crate) receive_limiter: LimiterState,
    pub(crate) transmit_limiter: LimiterState,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockState {
    pub(crate) sectors: u64,
    pub(crate) block_size: u32,
    pub(crate) read_only: bool,
    pub(crate) limiter: LimiterState,
}

/// A console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleState {
    /// Bytes that were already written out of the buffer that the driver offers next.
    pub(crate) written: u32,
}

/// An entropy source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyState {
    pub(crate) limiter: LimiterState,
}

/// What a rate limit has let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimiterState {
    pub(crate) bandwidth: Option<BucketState>,
    pub(crate) ops: Option<BucketState>,
}

/// What is left in a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BucketState {
    /// When it is full again if nothing is taken, in nanoseconds of monotonic time; 0 = it is full.
    pub(crate) full_at_ns: u64,
    /// Tokens that are left of those that come once.
    pub(crate) burst: u64,
}
