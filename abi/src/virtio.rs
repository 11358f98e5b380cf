//! The virtio register file behind `DEVICE_REGISTERS`: the layout of virtio-mmio version 2 (virtio
//! 1.2, section 4.2.2), reached by 32-bit IN and OUT; the device's configuration space is reached by
//! 8-, 16- or 32-bit accesses.

/// Read: "virt".
pub const MAGIC_VALUE: u16 = 0x000;
/// Value of [`MAGIC_VALUE`].
pub const MAGIC: u32 = 0x7472_6976;
/// Read: 2.
pub const VERSION: u16 = 0x004;
/// Read: virtio device type.
pub const DEVICE_ID: u16 = 0x008;
/// Read: vendor.
pub const VENDOR_ID: u16 = 0x00c;
/// Read: 32 feature bits of the device, chosen by [`DEVICE_FEATURES_SEL`].
pub const DEVICE_FEATURES: u16 = 0x010;
/// Write: which 32 bits of the device's features to show.
pub const DEVICE_FEATURES_SEL: u16 = 0x014;
/// Write: 32 feature bits of the driver, chosen by [`DRIVER_FEATURES_SEL`].
pub const DRIVER_FEATURES: u16 = 0x020;
/// Write: which 32 bits of the driver's features to set.
pub const DRIVER_FEATURES_SEL: u16 = 0x024;
/// Write: which queue the queue registers mean.
pub const QUEUE_SEL: u16 = 0x030;
/// Read: most entries of the queue; 0 = no such queue.
pub const QUEUE_SIZE_MAX: u16 = 0x034;
/// Write: entries of the queue.
pub const QUEUE_SIZE: u16 = 0x038;
/// Read and write: 1 = the queue is ready.
pub const QUEUE_READY: u16 = 0x044;
/// Write: number of a queue with new buffers.
pub const QUEUE_NOTIFY: u16 = 0x050;
/// Read: 1 = used buffers, 2 = configuration change.
pub const INTERRUPT_STATUS: u16 = 0x060;
/// Write: acknowledges bits of [`INTERRUPT_STATUS`].
pub const INTERRUPT_ACK: u16 = 0x064;
/// Read and write: device status; writing 0 resets.
pub const STATUS: u16 = 0x070;
/// Write: low half of the descriptor table's address.
pub const QUEUE_DESC_LOW: u16 = 0x080;
/// Write: high half.
pub const QUEUE_DESC_HIGH: u16 = 0x084;
/// Write: low half of the available ring's address.
pub const QUEUE_DRIVER_LOW: u16 = 0x090;
/// Write: high half.
pub const QUEUE_DRIVER_HIGH: u16 = 0x094;
/// Write: low half of the used ring's address.
pub const QUEUE_DEVICE_LOW: u16 = 0x0a0;
/// Write: high half.
pub const QUEUE_DEVICE_HIGH: u16 = 0x0a4;
/// Read: changes with the configuration space.
pub const CONFIG_GENERATION: u16 = 0x0fc;
/// Start of the device's configuration space; it ends with the register file.
pub const CONFIG: u16 = 0x100;

/// Status bit: the guest has seen the device.
pub const STATUS_ACKNOWLEDGE: u32 = 1;
/// Status bit: the guest has a driver.
pub const STATUS_DRIVER: u32 = 2;
/// Status bit: the driver is ready; the device may run.
pub const STATUS_DRIVER_OK: u32 = 4;
/// Status bit: features are agreed.
pub const STATUS_FEATURES_OK: u32 = 8;
/// Status bit: the device gave up on a broken driver and wants a reset.
pub const STATUS_NEEDS_RESET: u32 = 64;
/// Status bit: the guest gave up on the device.
pub const STATUS_FAILED: u32 = 128;

/// Feature: virtio 1.0 or later; required.
pub const FEATURE_VERSION_1: u64 = 1 << 32;
/// Feature: descriptors may be indirect.
pub const FEATURE_INDIRECT_DESC: u64 = 1 << 28;
/// Feature: used and available events suppress notifications.
pub const FEATURE_EVENT_IDX: u64 = 1 << 29;
/// Network feature: the device accepts frames whose checksum is left to it.
pub const NET_FEATURE_CSUM: u64 = 1 << 0;
/// Network feature: the driver accepts frames whose checksum is known to be good.
pub const NET_FEATURE_GUEST_CSUM: u64 = 1 << 1;
/// Network feature: the configuration space holds the MTU.
pub const NET_FEATURE_MTU: u64 = 1 << 3;
/// Network feature: the configuration space holds the MAC address.
pub const NET_FEATURE_MAC: u64 = 1 << 5;

/// Bytes of the header before each frame of a network queue (`virtio_net_hdr_v1`).
pub const NET_HEADER: usize = 12;
/// Network queue on which frames reach the guest.
pub const NET_RECEIVE_QUEUE: u16 = 0;
/// Network queue on which frames leave the guest.
pub const NET_TRANSMIT_QUEUE: u16 = 1;
/// Offset of the MAC address in the network configuration space.
pub const NET_CONFIG_MAC: u16 = 0;
/// Offset of the MTU in the network configuration space.
pub const NET_CONFIG_MTU: u16 = 10;

/// `flags` in the network header: the checksum from `csum_start` on is left to the device.
pub const NET_HEADER_NEEDS_CSUM: u8 = 1;
/// `flags` in the network header: the checksum is known to be good.
pub const NET_HEADER_DATA_VALID: u8 = 2;
