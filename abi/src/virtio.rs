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
/// Network feature: the driver accepts TCP segments over IPv4 larger than a packet.
pub const NET_FEATURE_GUEST_TSO4: u64 = 1 << 7;
/// Network feature: the driver accepts TCP segments over IPv6 larger than a packet.
pub const NET_FEATURE_GUEST_TSO6: u64 = 1 << 8;
/// Network feature: the device cuts TCP segments over IPv4 into packets.
pub const NET_FEATURE_HOST_TSO4: u64 = 1 << 11;
/// Network feature: the device cuts TCP segments over IPv6 into packets.
pub const NET_FEATURE_HOST_TSO6: u64 = 1 << 12;
/// Network feature: a received frame may span several of the driver's buffers.
pub const NET_FEATURE_MRG_RXBUF: u64 = 1 << 15;
/// Network feature: the configuration space holds the state of the link.
pub const NET_FEATURE_STATUS: u64 = 1 << 16;

/// Bytes of the header before each frame of a network queue (`virtio_net_hdr_v1`).
pub const NET_HEADER: usize = 12;
/// Network queue on which frames reach the guest.
pub const NET_RECEIVE_QUEUE: u16 = 0;
/// Network queue on which frames leave the guest.
pub const NET_TRANSMIT_QUEUE: u16 = 1;
/// Offset of the MAC address in the network configuration space.
pub const NET_CONFIG_MAC: u16 = 0;
/// Offset of the link's state in the network configuration space.
pub const NET_CONFIG_STATUS: u16 = 6;
/// Offset of the MTU in the network configuration space.
pub const NET_CONFIG_MTU: u16 = 10;

/// `flags` in the network header: the checksum from `csum_start` on is left to the device.
pub const NET_HEADER_NEEDS_CSUM: u8 = 1;
/// `flags` in the network header: the checksum is known to be good.
pub const NET_HEADER_DATA_VALID: u8 = 2;
/// `gso_type` in the network header: an ordinary frame.
pub const NET_HEADER_GSO_NONE: u8 = 0;
/// `gso_type` in the network header: TCP over IPv4, to be cut into packets of `gso_size` bytes of data.
pub const NET_HEADER_GSO_TCPV4: u8 = 1;
/// `gso_type` in the network header: TCP over IPv6, likewise.
pub const NET_HEADER_GSO_TCPV6: u8 = 4;
/// `gso_type` in the network header, added to a TCP type: the segment has explicit congestion marks.
pub const NET_HEADER_GSO_ECN: u8 = 0x80;

/// Bytes of a sector, the unit of all positions and capacities of block devices.
pub const BLOCK_SECTOR: u64 = 512;
/// Block feature: the configuration space limits the bytes of a segment.
pub const BLOCK_FEATURE_SIZE_MAX: u64 = 1 << 1;
/// Block feature: the configuration space limits the segments of a request.
pub const BLOCK_FEATURE_SEG_MAX: u64 = 1 << 2;
/// Block feature: the device cannot be written.
pub const BLOCK_FEATURE_RO: u64 = 1 << 5;
/// Block feature: the configuration space holds the block size.
pub const BLOCK_FEATURE_BLK_SIZE: u64 = 1 << 6;
/// Block feature: the device has a cache that [`BLOCK_REQUEST_FLUSH`] writes out.
pub const BLOCK_FEATURE_FLUSH: u64 = 1 << 9;
/// Block feature: the device takes [`BLOCK_REQUEST_DISCARD`].
pub const BLOCK_FEATURE_DISCARD: u64 = 1 << 13;
/// Block feature: the device takes [`BLOCK_REQUEST_WRITE_ZEROES`].
pub const BLOCK_FEATURE_WRITE_ZEROES: u64 = 1 << 14;

/// Offset of the capacity in sectors (64 bits) in the block configuration space.
pub const BLOCK_CONFIG_CAPACITY: u16 = 0;
/// Offset of the most bytes of a segment.
pub const BLOCK_CONFIG_SIZE_MAX: u16 = 8;
/// Offset of the most segments of a request.
pub const BLOCK_CONFIG_SEG_MAX: u16 = 12;
/// Offset of the block size in bytes.
pub const BLOCK_CONFIG_BLK_SIZE: u16 = 20;
/// Offset of the most sectors of a discarded range.
pub const BLOCK_CONFIG_MAX_DISCARD_SECTORS: u16 = 36;
/// Offset of the most ranges of a discard.
pub const BLOCK_CONFIG_MAX_DISCARD_SEG: u16 = 40;
/// Offset of the alignment of discarded ranges in sectors.
pub const BLOCK_CONFIG_DISCARD_ALIGNMENT: u16 = 44;
/// Offset of the most sectors of a zeroed range.
pub const BLOCK_CONFIG_MAX_WRITE_ZEROES_SECTORS: u16 = 48;
/// Offset of the most ranges of a write-zeroes.
pub const BLOCK_CONFIG_MAX_WRITE_ZEROES_SEG: u16 = 52;
/// Offset of a byte that is 1 where writing zeroes may free the range.
pub const BLOCK_CONFIG_WRITE_ZEROES_MAY_UNMAP: u16 = 56;
/// Bytes of the block configuration space.
pub const BLOCK_CONFIG_SIZE: usize = 60;

/// Bytes of the header of a block request: type (32 bits), reserved (32 bits), sector (64 bits).
pub const BLOCK_HEADER: usize = 16;
/// Request: read from the device.
pub const BLOCK_REQUEST_IN: u32 = 0;
/// Request: write to the device.
pub const BLOCK_REQUEST_OUT: u32 = 1;
/// Request: everything written and completed before is on the disk when this completes.
pub const BLOCK_REQUEST_FLUSH: u32 = 4;
/// Request: the device's name, [`BLOCK_ID`] bytes.
pub const BLOCK_REQUEST_GET_ID: u32 = 8;
/// Request: ranges whose content is of no more use.
pub const BLOCK_REQUEST_DISCARD: u32 = 11;
/// Request: ranges that shall read as zeroes.
pub const BLOCK_REQUEST_WRITE_ZEROES: u32 = 13;
/// Bytes of a device's name, padded with zeros.
pub const BLOCK_ID: usize = 20;
/// Bytes of a range of a discard or write-zeroes: sector (64 bits), sectors (32), flags (32).
pub const BLOCK_RANGE: usize = 16;
/// Flag of a zeroed range: it may be freed.
pub const BLOCK_RANGE_UNMAP: u32 = 1;
/// Status, the last byte of a request: done.
pub const BLOCK_STATUS_OK: u8 = 0;
/// Status: the device or the driver erred.
pub const BLOCK_STATUS_IOERR: u8 = 1;
/// Status: there is no such request.
pub const BLOCK_STATUS_UNSUPP: u8 = 2;

/// Console queue on which input reaches the guest.
pub const CONSOLE_RECEIVE_QUEUE: u16 = 0;
/// Console queue on which output leaves the guest.
pub const CONSOLE_TRANSMIT_QUEUE: u16 = 1;

/// Entropy queue, the only one: the device fills the driver's buffers with random bytes.
pub const ENTROPY_QUEUE: u16 = 0;
