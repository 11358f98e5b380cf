//! The virtio network card: frames in and out of two queues, as the TCP/IP stack wants them.

mod receive;
#[cfg(test)]
pub(crate) mod tests;
mod transmit;

use super::RegisterFile;
use super::queue::{ENTRIES, Layout, Queue, Rings};
use crate::memory;
use core::num::NonZeroUsize;
use denali_abi::boot::DeviceEntry;
use denali_abi::virtio::{
    CONFIG, DEVICE_FEATURES, DRIVER_FEATURES, DRIVER_FEATURES_SEL, FEATURE_VERSION_1,
    NET_CONFIG_MAC, NET_CONFIG_MTU, NET_FEATURE_CSUM, NET_FEATURE_GUEST_CSUM,
    NET_FEATURE_GUEST_TSO4, NET_FEATURE_HOST_TSO4, NET_FEATURE_MAC, NET_FEATURE_MRG_RXBUF,
    NET_FEATURE_MTU, NET_HEADER, NET_TRANSMIT_QUEUE, QUEUE_DESC_LOW, QUEUE_DEVICE_LOW,
    QUEUE_DRIVER_LOW, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE, STATUS, STATUS_ACKNOWLEDGE,
    STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
};
use receive::ReceiveQueue;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use transmit::{SendToken, TransmitQueue};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Largest IP packet where the device does not say.
const MTU_DEFAULT: u16 = 1500;
/// Largest IP packet this driver takes, whatever the device says: 64 buffers of it each way.
const MTU_MAX: u16 = 9000;
/// Buffers are a multiple of this many bytes, so that none straddles more pages than it must.
const BUFFER_UNIT: usize = 2048;
/// Bytes of a frame with the largest IP packet, as the device may put it together.
const SEGMENT_FRAME: usize = ETHERNET + 65_535;
/// Bytes of the largest frame that is handed over to be cut. Linux cuts larger ones itself where they
/// leave a host by another interface, and not where it is cheapest.
const CUT_MAX: usize = 65_535;
/// Bytes of the headers of IPv4 and TCP without options.
const HEADERS: usize = 40;
/// Bytes of a buffer for such a frame and its header.
const SEGMENT_BUFFER: usize = (NET_HEADER + SEGMENT_FRAME).next_multiple_of(4096);
/// Least bytes of a buffer of those that such a frame spans on arrival.
const SPANNED_MIN: usize = 4096;
/// The part of untouched memory that the buffers of one direction may take for large segments.
const SEGMENT_SHARE: usize = 16;

/// The rings of both queues, in one page.
#[repr(C, align(4096))]
struct BothRings([Rings; 2]);

static RINGS: BothRings = BothRings([Rings::new(), Rings::new()]);

/// Why the card cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetError {
    /// The device refused the features it offered.
    Refused,
    /// There is no memory for its buffers.
    OutOfMemory,
}

/// A card that is ready.
pub(crate) struct NetDevice {
    receive: ReceiveQueue,
    transmit: TransmitQueue,
    registers: RegisterFile,
    /// The device has an address of its own.
    has_mac: bool,
    mtu: u16,
    checksums: Offload,
    /// The device cuts large TCP segments into packets.
    cuts: bool,
}

/// Which checksums the device takes care of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offload {
    transmit: bool,
    receive: bool,
}

impl NetDevice {
    /// Starts the card with device number `number`. To be called once: the rings are static.
    ///
    /// Registers that have the wanted value after reset are not written, and what the contract
    /// guarantees is not read back, since every access costs an exit.
    pub(crate) fn start(number: u16) -> Result<Self, NetError> {
        let registers = RegisterFile::of_device(number);
        let found = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
        registers.write(STATUS, found);
        let features = wanted(u64::from(registers.read(DEVICE_FEATURES)));
        registers.write(DRIVER_FEATURES, features as u32);
        registers.write(DRIVER_FEATURES_SEL, 1);
        registers.write(DRIVER_FEATURES, (FEATURE_VERSION_1 >> 32) as u32);
        registers.write(STATUS, found | STATUS_FEATURES_OK);
        if registers.read(STATUS) & STATUS_FEATURES_OK == 0 {
            return Err(NetError::Refused);
        }

        let mtu = if features & NET_FEATURE_MTU == 0 {
            MTU_DEFAULT
        } else {
            registers.read16(CONFIG + NET_CONFIG_MTU).min(MTU_MAX)
        };
        let has = |feature| features & feature != 0;
        let layouts = layouts(
            usize::from(mtu),
            memory::untouched(),
            [has(NET_FEATURE_GUEST_TSO4), has(NET_FEATURE_HOST_TSO4)],
        );
        let [receive_rings, transmit_rings] = &RINGS.0;
        let buffers = |bytes| memory::fresh(bytes).ok_or(NetError::OutOfMemory);
        let queue = |rings, layout: Layout| Ok(Queue::new(rings, buffers(layout.bytes())?, layout));
        let checksums =
            Offload { transmit: has(NET_FEATURE_CSUM), receive: has(NET_FEATURE_GUEST_CSUM) };
        let bounce = has(NET_FEATURE_MRG_RXBUF).then(|| buffers(SEGMENT_BUFFER)).transpose()?;
        let receive = queue(receive_rings, layouts[0])?;
        let transmit = queue(transmit_rings, layouts[1])?;
        let device = Self {
            receive: ReceiveQueue::new(receive, checksums.receive, bounce),
            transmit: TransmitQueue::new(transmit, checksums.transmit),
            registers,
            has_mac: has(NET_FEATURE_MAC),
            mtu,
            checksums,
            cuts: has(NET_FEATURE_HOST_TSO4),
        };

        set_up_queue(registers, receive_rings);
        registers.write(QUEUE_SEL, u32::from(NET_TRANSMIT_QUEUE));
        set_up_queue(registers, transmit_rings);
        registers.write(STATUS, found | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
        Ok(device)
    }

    /// The card's hardware address as it is now, with this entry in the device table. If that does not say it, it
    /// costs two exits to ask.
    pub(crate) fn mac(&self, entry: &DeviceEntry) -> [u8; 6] {
        if entry.mac != [0; 6] {
            return entry.mac;
        }
        // Without an address of its own the card gets one that is locally administered.
        let mut mac = [0x02, 0, 0, 0, 0, 1];
        if self.has_mac {
            mac[..4].copy_from_slice(&self.registers.read(CONFIG + NET_CONFIG_MAC).to_le_bytes());
            mac[4..]
                .copy_from_slice(&self.registers.read16(CONFIG + NET_CONFIG_MAC + 4).to_le_bytes());
        }
        mac
    }

    /// Whether a frame could not be sent for want of a buffer since this was last asked.
    pub(crate) fn take_starved(&mut self) -> bool {
        core::mem::take(&mut self.transmit.starved)
    }

    /// Whether a frame was received since this was last asked that opens a TCP connection.
    pub(crate) fn take_opening(&mut self) -> bool {
        core::mem::take(&mut self.receive.opening)
    }

    /// Whether frames wait to be taken in.
    pub(crate) fn has_received(&self) -> bool {
        self.receive.queue.has_used()
    }

    /// Takes back buffers of frames that are sent. True if some buffer is free now.
    pub(crate) fn reclaim(&mut self) -> bool {
        self.transmit.reclaim();
        self.transmit.has_room()
    }

    /// Whether TCP may hand over and gets segments larger than packets.
    pub(crate) fn has_large_segments(&self) -> bool {
        self.cuts
    }

    /// Asks for an interrupt when a frame has been sent, or for none.
    pub(crate) fn interrupt_when_sent(&self, wanted: bool) {
        self.transmit.queue.set_interrupts(wanted);
    }
}

/// What is agreed to of what the device offers. Frames span buffers only for the sake of large segments,
/// and the device may hand those over, or get them, only with checksums left over.
fn wanted(offered: u64) -> u64 {
    let mut wanted = NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM | NET_FEATURE_MAC | NET_FEATURE_MTU;
    let has = |features| offered & features == features;
    if has(NET_FEATURE_GUEST_TSO4 | NET_FEATURE_GUEST_CSUM | NET_FEATURE_MRG_RXBUF) {
        wanted |= NET_FEATURE_GUEST_TSO4 | NET_FEATURE_MRG_RXBUF;
    }
    if has(NET_FEATURE_HOST_TSO4 | NET_FEATURE_CSUM) {
        wanted |= NET_FEATURE_HOST_TSO4;
    }
    offered & wanted
}

/// How the buffers of the receive and the transmit queue are laid out, by the MTU, the memory there is,
/// and which of them carries large segments. Buffers take memory only as far as they are used.
fn layouts(mtu: usize, untouched: usize, large: [bool; 2]) -> [Layout; 2] {
    let packet = (NET_HEADER + ETHERNET + mtu).next_multiple_of(BUFFER_UNIT);
    let share = untouched / SEGMENT_SHARE;
    let receive = if large[0] {
        // Powers of two, so that a segment does not take one page of one more buffer.
        let spanned = (share / ENTRIES).clamp(SPANNED_MIN, SEGMENT_BUFFER);
        Layout::uniform(if spanned == SEGMENT_BUFFER { spanned } else { 1 << spanned.ilog2() })
    } else {
        Layout::uniform(packet)
    };
    let transmit = if large[1] {
        let large = (share / SEGMENT_BUFFER).clamp(2, ENTRIES);
        Layout { large, large_len: SEGMENT_BUFFER, small_len: packet }
    } else {
        Layout::uniform(packet)
    };
    [receive, transmit]
}

/// Bytes of the largest frame that the device cuts into nothing but full packets.
fn largest_segment(mtu: usize) -> usize {
    let headers = ETHERNET + HEADERS;
    let data = mtu.saturating_sub(HEADERS).max(1);
    headers + (CUT_MAX - headers) / data * data
}

/// Tells the device where the selected queue is. The high halves of the addresses stay 0: all of a
/// guest's memory is below 4 GiB.
fn set_up_queue(registers: RegisterFile, rings: &Rings) {
    let [descriptors, available, used] = rings.addresses();
    registers.write(QUEUE_SIZE, ENTRIES as u32);
    registers.write(QUEUE_DESC_LOW, descriptors as u32);
    registers.write(QUEUE_DRIVER_LOW, available as u32);
    registers.write(QUEUE_DEVICE_LOW, used as u32);
    registers.write(QUEUE_READY, 1);
}

impl Device for NetDevice {
    type RxToken<'a> = &'a mut ReceiveQueue;
    type TxToken<'a> = SendToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        // A frame is only taken in when the answer to it could be sent.
        (self.receive.queue.has_used() && self.transmit.is_ready())
            .then(|| (&mut self.receive, SendToken::new(&mut self.transmit)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        self.transmit.is_ready().then(|| SendToken::new(&mut self.transmit))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // What the device does not complete is computed here; what it does not mark is verified
        // here. If it marks, `RxToken::consume` looks at the marks.
        let checksum = match (self.checksums.transmit, self.checksums.receive) {
            (true, true) => Checksum::None,
            (true, false) => Checksum::Rx,
            (false, true) => Checksum::Tx,
            (false, false) => Checksum::Both,
        };
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.mtu) + ETHERNET;
        capabilities.checksum.tcp = checksum;
        capabilities.checksum.udp = checksum;
        capabilities.segmentation.tcpv4 =
            NonZeroUsize::new(largest_segment(usize::from(self.mtu))).filter(|_| self.cuts);
        capabilities
    }
}
