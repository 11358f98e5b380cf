//! Frames that leave.

use super::super::checksum;
use super::super::queue::{ENTRIES, Queue};
use denali_abi::virtio::{NET_HEADER, NET_HEADER_GSO_TCPV4, NET_HEADER_NEEDS_CSUM};
use smoltcp::phy::{PacketMeta, TxToken};

/// Numbers of free buffers, used last in, first out, so that few pages are touched.
struct Free {
    ids: [u16; ENTRIES],
    count: usize,
}

impl Free {
    /// The buffers `from..to`, lowest first.
    fn of(from: usize, to: usize) -> Self {
        let ids = core::array::from_fn(|index| to.saturating_sub(index + 1) as u16);
        Self { ids, count: to - from }
    }

    fn take(&mut self) -> Option<u16> {
        self.count = self.count.checked_sub(1)?;
        Some(self.ids[self.count])
    }

    /// A device that gives back more than it was given does not overflow the list.
    fn put(&mut self, id: u16) {
        if self.count < ENTRIES {
            self.ids[self.count] = id;
            self.count += 1;
        }
    }
}

/// Frames that leave.
pub(crate) struct TransmitQueue {
    pub(super) queue: Queue,
    large: Free,
    small: Free,
    /// Whether the device completes checksums.
    offload: bool,
    /// A frame could not be sent for want of a buffer.
    pub(super) starved: bool,
}

impl TransmitQueue {
    pub(super) fn new(queue: Queue, offload: bool) -> Self {
        queue.set_interrupts(false);
        let large = queue.layout().large;
        Self {
            queue,
            large: Free::of(0, large),
            small: Free::of(large, ENTRIES),
            offload,
            starved: false,
        }
    }

    /// Takes back the buffers of frames that are sent.
    pub(super) fn reclaim(&mut self) {
        let large = self.queue.layout().large;
        while let Some((id, _)) = self.queue.take_used() {
            if usize::from(id) < large { self.large.put(id) } else { self.small.put(id) }
        }
    }

    /// Whether there is a buffer for a frame of any size.
    pub(super) fn has_room(&self) -> bool {
        self.large.count > 0
    }

    /// Whether a frame can be sent now.
    pub(super) fn is_ready(&mut self) -> bool {
        if !self.has_room() {
            self.reclaim();
        }
        self.starved |= !self.has_room();
        self.has_room()
    }

    /// A free buffer for `len` bytes: a small one, if it does and there is one.
    fn buffer_for(&mut self, len: usize) -> Option<u16> {
        let small = len <= self.queue.layout().small_len;
        small.then(|| self.small.take()).flatten().or_else(|| self.large.take())
    }

    fn send<R>(&mut self, len: usize, cut_at: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let Some(id) = self.buffer_for(NET_HEADER + len) else {
            unreachable!("a token is only made when a buffer is free");
        };
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
            if let Some(size) = cut_at {
                header[1] = NET_HEADER_GSO_TCPV4;
                let headers = checksum::tcp_data(frame, start);
                header[2..4].copy_from_slice(&headers.to_le_bytes());
                header[4..6].copy_from_slice(&size.to_le_bytes());
            }
        }
        self.queue.give_to_read(id, NET_HEADER + len);
        result
    }
}

/// The right to send one frame.
pub(crate) struct SendToken<'a> {
    queue: &'a mut TransmitQueue,
    /// Bytes of data after which the device cuts the segment in the frame.
    cut_at: Option<u16>,
}

impl<'a> SendToken<'a> {
    pub(super) fn new(queue: &'a mut TransmitQueue) -> Self {
        Self { queue, cut_at: None }
    }
}

impl TxToken for SendToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        self.queue.send(len, self.cut_at, fill)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut_at = meta.segmentation_offload_size.map(core::num::NonZeroU16::get);
    }
}
