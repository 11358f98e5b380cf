//! What the front end knows about a kind of device: features, queues, configuration space.

use denali_abi::boot::{KIND_BLOCK, KIND_NET};
use denali_abi::virtio::{
    BLOCK_CONFIG_SEG_MAX, BLOCK_CONFIG_SIZE, BLOCK_CONFIG_SIZE_MAX, BLOCK_FEATURE_BLK_SIZE,
    BLOCK_FEATURE_DISCARD, BLOCK_FEATURE_FLUSH, BLOCK_FEATURE_RO, BLOCK_FEATURE_SEG_MAX,
    BLOCK_FEATURE_SIZE_MAX, BLOCK_FEATURE_WRITE_ZEROES, NET_CONFIG_MAC, NET_CONFIG_MTU,
    NET_FEATURE_CSUM, NET_FEATURE_GUEST_CSUM, NET_FEATURE_GUEST_TSO4, NET_FEATURE_GUEST_TSO6,
    NET_FEATURE_HOST_TSO4, NET_FEATURE_HOST_TSO6, NET_FEATURE_MAC, NET_FEATURE_MRG_RXBUF,
    NET_FEATURE_MTU,
};
use denali_devices::net::NetConfig;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;

/// Features of disks that are passed on.
const BLOCK_FEATURES: u64 = BLOCK_FEATURE_SIZE_MAX
    | BLOCK_FEATURE_SEG_MAX
    | BLOCK_FEATURE_RO
    | BLOCK_FEATURE_BLK_SIZE
    | BLOCK_FEATURE_FLUSH
    | BLOCK_FEATURE_DISCARD
    | BLOCK_FEATURE_WRITE_ZEROES;

/// Features of network cards that are passed on.
const NET_FEATURES: u64 = NET_FEATURE_CSUM
    | NET_FEATURE_GUEST_CSUM
    | NET_FEATURE_GUEST_TSO4
    | NET_FEATURE_GUEST_TSO6
    | NET_FEATURE_HOST_TSO4
    | NET_FEATURE_HOST_TSO6
    | NET_FEATURE_MRG_RXBUF;

/// Bytes of a network card's configuration space: MAC address, status, queue pairs, MTU.
const NET_CONFIG_SIZE: usize = 12;

/// A kind of device, and what its configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A disk, of which the back end tells everything.
    Block,
    /// A network card, whose addresses the configuration tells.
    Net(NetConfig),
}

impl Profile {
    /// The virtio device type.
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Block => KIND_BLOCK,
            Self::Net(_) => KIND_NET,
        }
    }

    /// The features a guest is offered with a back end that has `features`.
    pub(crate) fn offered(&self, features: u64) -> u64 {
        match self {
            Self::Block => features & BLOCK_FEATURES,
            Self::Net(_) => features & NET_FEATURES | NET_FEATURE_MAC | NET_FEATURE_MTU,
        }
    }

    /// The features of a back end without those whose configuration makes no sense: QEMU's storage
    /// daemon limits segments to no bytes, and means that it does not limit them.
    pub(crate) fn sensible(&self, features: u64, config: &[u8]) -> u64 {
        let limits = [
            (BLOCK_FEATURE_SIZE_MAX, BLOCK_CONFIG_SIZE_MAX),
            (BLOCK_FEATURE_SEG_MAX, BLOCK_CONFIG_SEG_MAX),
        ];
        let is_nothing = |at: u16| config.iter().skip(at.into()).take(4).all(|&byte| byte == 0);
        let senseless = limits.into_iter().filter(|&(_, at)| is_nothing(at));
        let senseless = senseless.fold(0, |all, (feature, _)| all | feature);
        match self {
            Self::Block => features & !senseless,
            Self::Net(_) => features,
        }
    }

    /// Most entries of each queue.
    pub(crate) fn queue_sizes(&self) -> &'static [u16] {
        match self {
            Self::Block => &[QUEUE_SIZE],
            Self::Net(_) => &[QUEUE_SIZE; 2],
        }
    }

    /// Whether the back end may complete requests in another order than they were made in.
    pub(crate) fn reorders(&self) -> bool {
        matches!(self, Self::Block)
    }

    /// Bytes of the configuration space that the back end is asked for.
    pub(crate) fn config_length(&self) -> usize {
        match self {
            Self::Block => BLOCK_CONFIG_SIZE,
            Self::Net(_) => 0,
        }
    }

    /// The configuration space the guest sees, of what the back end has told.
    pub(crate) fn config(&self, told: &[u8]) -> Vec<u8> {
        match self {
            Self::Block => told.to_vec(),
            Self::Net(net) => {
                let mut space = vec![0; NET_CONFIG_SIZE];
                space[usize::from(NET_CONFIG_MAC)..][..6].copy_from_slice(&net.mac);
                space[usize::from(NET_CONFIG_MTU)..][..2].copy_from_slice(&net.mtu.to_le_bytes());
                space
            }
        }
    }
}
