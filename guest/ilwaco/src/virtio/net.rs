//! The virtio network card: frames in and out of two queues, as the TCP/IP stack wants them.

use super::queue::{ENTRIES, Queue, Rings};
use super::{RegisterFile, checksum};
use crate::memory;
use denali_abi::virtio::{
    CONFIG, DEVICE_FEATURES, DRIVER_FEATURES, DRIVER_FEATURES_SEL, FEATURE_VERSION_1,
    NET_CONFIG_MAC, NET_CONFIG_MTU, NET_FEATURE_CSUM, NET_FEATURE_GUEST_CSUM, NET_FEATURE_MAC,
    NET_FEATURE_MTU, NET_HEADER, NET_HEADER_DATA_VALID, NET_HEADER_NEEDS_CSUM, NET_TRANSMIT_QUEUE,
    QUEUE_DESC_LOW, QUEUE_DEVICE_LOW, QUEUE_DRIVER_LOW, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE, STATUS,
    STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Largest IP packet where the device does not say.
const MTU_DEFAULT: u16 = 1500;
/// Largest IP packet this driver takes, whatever the device says: 64 buffers of it each way.
const MTU_MAX: u16 = 9000;
/// Buffers are a multiple of this many bytes, so that none straddles more pages than it must.
const BUFFER_UNIT: usize = 2048;

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
    mac: [u8; 6],
    mtu: u16,
    checksums: Offload,
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
        let wanted = NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM | NET_FEATURE_MAC | NET_FEATURE_MTU;
        let features = u64::from(registers.read(DEVICE_FEATURES)) & wanted;
        registers.write(DRIVER_FEATURES, features as u32);
        registers.write(DRIVER_FEATURES_SEL, 1);
        registers.write(DRIVER_FEATURES, (FEATURE_VERSION_1 >> 32) as u32);
        registers.write(STATUS, found | STATUS_FEATURES_OK);
        if registers.read(STATUS) & STATUS_FEATURES_OK == 0 {
            return Err(NetError::Refused);
        }

        let mac = read_mac(registers, features);
        let mtu = if features & NET_FEATURE_MTU == 0 {
            MTU_DEFAULT
        } else {
            registers.read16(CONFIG + NET_CONFIG_MTU).min(MTU_MAX)
        };
        let frame = NET_HEADER + ETHERNET + usize::from(mtu);
        let bytes = frame.next_multiple_of(BUFFER_UNIT) * ENTRIES;
        let [receive_rings, transmit_rings] = &RINGS.0;
        let buffers = || memory::fresh(bytes).ok_or(NetError::OutOfMemory);
        let checksums = Offload {
            transmit: features & NET_FEATURE_CSUM != 0,
            receive: features & NET_FEATURE_GUEST_CSUM != 0,
        };
        let device = Self {
            receive: ReceiveQueue::new(Queue::new(receive_rings, buffers()?), checksums.receive),
            transmit: TransmitQueue::new(
                Queue::new(transmit_rings, buffers()?),
                checksums.transmit,
            ),
            mac,
            mtu,
            checksums,
        };

        set_up_queue(registers, receive_rings);
        registers.write(QUEUE_SEL, u32::from(NET_TRANSMIT_QUEUE));
        set_up_queue(registers, transmit_rings);
        registers.write(STATUS, found | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
        Ok(device)
    }

    /// The card's hardware address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
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
        self.transmit.free_count > 0
    }

    /// Asks for an interrupt when a frame has been sent, or for none.
    pub(crate) fn interrupt_when_sent(&self, wanted: bool) {
        self.transmit.queue.set_interrupts(wanted);
    }
}

fn read_mac(registers: RegisterFile, features: u64) -> [u8; 6] {
    // Without an address of its own the card gets one that is locally administered.
    let mut mac = [0x02, 0, 0, 0, 0, 1];
    if features & NET_FEATURE_MAC != 0 {
        mac[..4].copy_from_slice(&registers.read(CONFIG + NET_CONFIG_MAC).to_le_bytes());
        mac[4..].copy_from_slice(&registers.read16(CONFIG + NET_CONFIG_MAC + 4).to_le_bytes());
    }
    mac
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

/// Frames that arrive.
pub(crate) struct ReceiveQueue {
    queue: Queue,
    /// Whether the device marks frames whose checksum is good.
    marked: bool,
    opening: bool,
}

impl ReceiveQueue {
    fn new(mut queue: Queue, marked: bool) -> Self {
        for id in 0..ENTRIES as u16 {
            queue.give_to_write(id);
        }
        Self { queue, marked, opening: false }
    }
}

/// Frames that leave. Free buffers are used last in, first out, so that few pages are touched.
pub(crate) struct TransmitQueue {
    queue: Queue,
    free: [u16; ENTRIES],
    free_count: usize,
    /// Whether the device completes checksums.
    offload: bool,
    starved: bool,
}

impl TransmitQueue {
    fn new(queue: Queue, offload: bool) -> Self {
        queue.set_interrupts(false);
        let free = core::array::from_fn(|index| (ENTRIES - 1 - index) as u16);
        Self { queue, free, free_count: ENTRIES, offload, starved: false }
    }

    fn reclaim(&mut self) {
        while let Some((id, _)) = self.queue.take_used() {
            // A device that gives back more than it was given does not overflow the list.
            if self.free_count < ENTRIES {
                self.free[self.free_count] = id;
                self.free_count += 1;
            }
        }
    }

    /// Whether a frame can be sent now.
    fn is_ready(&mut self) -> bool {
        if self.free_count == 0 {
            self.reclaim();
        }
        self.starved |= self.free_count == 0;
        self.free_count > 0
    }
}

impl Device for NetDevice {
    type RxToken<'a> = &'a mut ReceiveQueue;
    type TxToken<'a> = &'a mut TransmitQueue;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        // A frame is only taken in when the answer to it could be sent.
        (self.receive.queue.has_used() && self.transmit.is_ready())
            .then_some((&mut self.receive, &mut self.transmit))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        self.transmit.is_ready().then_some(&mut self.transmit)
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
        capabilities
    }
}

impl RxToken for &mut ReceiveQueue {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        let Some((id, len)) = self.queue.take_used() else {
            return process(&[]);
        };
        let marked = self.marked;
        let bytes = &self.queue.buffer(id)[..len];
        let frame = match bytes.split_at_checked(NET_HEADER) {
            None => &[],
            Some((header, frame)) => {
                let good = NET_HEADER_DATA_VALID | NET_HEADER_NEEDS_CSUM;
                let vouched = !marked || header[0] & good != 0;
                if vouched || checksum::is_right(frame) { frame } else { &[] }
            }
        };
        let opening = checksum::opens_connection(frame);
        let result = process(frame);
        self.opening |= opening;
        self.queue.give_to_write(id);
        result
    }
}

impl TxToken for &mut TransmitQueue {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        // A token is only made when a buffer is free.
        self.free_count -= 1;
        let id = self.free[self.free_count];
        let (header, rest) = self.queue.buffer(id).split_at_mut(NET_HEADER);
        let frame = &mut rest[..len];
        let result = fill(frame);
        header.fill(0);
        if self.offload
            && let Some((start, offset)) = checksum::leave_to_device(frame)
        {
            header[0] = NET_HEADER_NEEDS_CSUM;
            header[6..8].copy_from_slice(&start.to_le_bytes());
            header[8..10].copy_from_slice(&offset.to_le_bytes());
        }
        self.queue.give_to_read(id, NET_HEADER + len);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::tests::{FakeDevice, rings};
    use super::*;

    fn card() -> (NetDevice, FakeDevice, FakeDevice) {
        let (receive, transmit) = (rings(), rings());
        let queue = |rings| Queue::new(rings, vec![0; ENTRIES * BUFFER_UNIT].leak());
        let card = NetDevice {
            receive: ReceiveQueue::new(queue(receive), true),
            transmit: TransmitQueue::new(queue(transmit), true),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: MTU_DEFAULT,
            checksums: Offload { transmit: true, receive: true },
        };
        (card, FakeDevice::new(receive), FakeDevice::new(transmit))
    }

    #[test]
    fn frames_arrive_without_their_header_and_buffers_come_back() {
        let (mut card, mut device, _) = card();
        for round in 0..1000_u32 {
            let (id, buffer) = device.next().unwrap();
            buffer[..NET_HEADER].fill(0);
            buffer[NET_HEADER..NET_HEADER + 4].copy_from_slice(&round.to_le_bytes());
            device.finish(u32::from(id), NET_HEADER + 4);
            let (token, _) = card.receive(Instant::ZERO).unwrap();
            assert_eq!(token.consume(<[u8]>::to_vec), round.to_le_bytes());
            assert!(card.receive(Instant::ZERO).is_none());
        }
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_empty() {
        let (mut card, mut device, _) = card();
        let (id, _) = device.next().unwrap();
        device.finish(u32::from(id), NET_HEADER - 1);
        let (token, _) = card.receive(Instant::ZERO).unwrap();
        assert!(token.consume(<[u8]>::is_empty));
    }

    #[test]
    fn sending_stops_when_all_buffers_are_out_and_goes_on_when_they_are_back() {
        let (mut card, _, mut device) = card();
        for _ in 0..ENTRIES {
            card.transmit(Instant::ZERO).unwrap().consume(60, |frame| frame.fill(7));
        }
        assert!(card.transmit(Instant::ZERO).is_none());
        assert!(card.take_starved() && !card.take_starved());
        let (id, bytes) = device.next().unwrap();
        assert_eq!(bytes.len(), NET_HEADER + 60);
        assert_eq!((bytes[0], bytes[NET_HEADER]), (0, 7));
        device.finish(u32::from(id), 0);
        assert!(card.transmit(Instant::ZERO).is_some());
    }
}
