//! The queue processor: moves frames between the card's queues and a back end, no more than that.

use super::backend::{Checksum, Frame, NetBackend};
use super::checksum::transport_checksum;
use super::metrics::NetMetrics;
use crate::virtio::{Chain, DeviceQueue, Direction, QueueError};
use denali_abi::virtio::{NET_HEADER, NET_HEADER_DATA_VALID, NET_HEADER_NEEDS_CSUM};
use vm_memory::GuestMemory;

/// Most chains taken from one queue in one service: a full ring.
const CHAINS_MAX: usize = 256;

/// Bytes after which a service of one queue stops.
const BYTES_MAX: usize = 4 << 20;

/// Moves frames, and keeps the buffers it needs for that from one service to the next.
#[derive(Debug, Default)]
pub struct Processor {
    chain: Chain,
    scratch: Vec<u8>,
    /// The guest has been asked to notify of new receive buffers, and has brought none yet.
    asked_for_buffers: bool,
    /// The guest has been told that it need not notify of new receive buffers.
    declined_buffers: bool,
}

/// What was agreed with the driver and configured.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Most bytes of a frame.
    pub frame_max: usize,
    /// The driver may leave checksums to the device.
    pub partial_from_guest: bool,
    /// The driver believes the device about checksums.
    pub trusts_device: bool,
}

impl Processor {
    /// Hands the guest's frames to the back end; true when the budget ended before the frames.
    pub fn transmit<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        terms: Terms,
        backend: &mut dyn NetBackend,
        metrics: &mut NetMetrics,
    ) -> Result<bool, QueueError> {
        let mut bytes = 0;
        for _ in 0..CHAINS_MAX {
            if !queue.take(memory, Direction::FromDriver, &mut self.chain)? {
                return Ok(false);
            }
            let total = self.chain.total();
            if total > NET_HEADER && total <= NET_HEADER + terms.frame_max {
                self.scratch.resize(total, 0);
                self.chain.read(memory, &mut self.scratch)?;
                match parse(&self.scratch, terms.partial_from_guest) {
                    Some(frame) => {
                        metrics.transmit_frames += 1;
                        metrics.transmit_bytes += frame.bytes.len() as u64;
                        backend.transmit(frame);
                    }
                    None => metrics.transmit_errors += 1,
                }
            } else {
                metrics.transmit_errors += 1;
            }
            queue.give_back(memory, self.chain.head(), 0)?;
            bytes += total.min(NET_HEADER + terms.frame_max);
            if bytes >= BYTES_MAX {
                break;
            }
        }
        queue.has_available(memory)
    }

    /// Fills the guest's buffers with the back end's frames; true when the budget ended first.
    pub fn receive<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        terms: Terms,
        backend: &mut dyn NetBackend,
        metrics: &mut NetMetrics,
    ) -> Result<bool, QueueError> {
        if !queue.ready() {
            return Ok(false);
        }
        let mut bytes = 0;
        for _ in 0..CHAINS_MAX {
            let Some(frame) = backend.peek() else { return Ok(false) };
            if !self.take_buffer(queue, memory, metrics)? {
                return Ok(false);
            }
            let length = NET_HEADER + frame.bytes.len();
            if length <= self.chain.total() && frame.bytes.len() <= terms.frame_max {
                write_frame(&self.chain, memory, frame, terms)?;
                queue.give_back(memory, self.chain.head(), length as u32)?;
                metrics.receive_frames += 1;
                metrics.receive_bytes += frame.bytes.len() as u64;
            } else {
                metrics.receive_errors += 1;
                queue.put_back();
            }
            backend.consume();
            bytes += length;
            if bytes >= BYTES_MAX {
                break;
            }
        }
        Ok(backend.peek().is_some())
    }

    /// Takes a receive buffer; without one, the guest is asked to notify when it adds some.
    fn take_buffer<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        metrics: &mut NetMetrics,
    ) -> Result<bool, QueueError> {
        if !queue.take(memory, Direction::ToDriver, &mut self.chain)? {
            metrics.receive_starved += u64::from(!self.asked_for_buffers);
            self.asked_for_buffers = true;
            self.declined_buffers = false;
            // Buffers that came while it was asked bring no notification.
            let came = queue.ask_for_notification(memory)?;
            if !came || !queue.take(memory, Direction::ToDriver, &mut self.chain)? {
                return Ok(false);
            }
        }
        self.asked_for_buffers = false;
        if !std::mem::replace(&mut self.declined_buffers, true) {
            queue.decline_notification(memory)?;
        }
        Ok(true)
    }
}

/// The frame after a virtio header, or `None` when the header asks for what was not agreed on.
fn parse(bytes: &[u8], partial_allowed: bool) -> Option<Frame<'_>> {
    let (header, frame) = bytes.split_at_checked(NET_HEADER)?;
    let (flags, segmentation) = (header[0], header[1]);
    if segmentation != 0 || frame.is_empty() {
        return None;
    }
    if flags & NET_HEADER_NEEDS_CSUM == 0 {
        return Some(Frame { bytes: frame, checksum: Checksum::Complete });
    }
    let start = u16::from_le_bytes([header[6], header[7]]);
    let offset = u16::from_le_bytes([header[8], header[9]]);
    let inside = usize::from(start) + usize::from(offset) + 2 <= frame.len();
    let checksum = Checksum::Partial { start, offset };
    (partial_allowed && inside).then_some(Frame { bytes: frame, checksum })
}

/// Writes a virtio header and the frame, with its checksum where the driver wants one.
fn write_frame<M: GuestMemory>(
    chain: &Chain,
    memory: &M,
    frame: Frame<'_>,
    terms: Terms,
) -> Result<(), QueueError> {
    let mut header = [0; NET_HEADER];
    let mut complete = None;
    match frame.checksum {
        Checksum::Complete => {}
        Checksum::Partial { start, offset } if terms.trusts_device => {
            header[0] = NET_HEADER_NEEDS_CSUM;
            header[6..8].copy_from_slice(&start.to_le_bytes());
            header[8..10].copy_from_slice(&offset.to_le_bytes());
        }
        Checksum::Absent if terms.trusts_device => header[0] = NET_HEADER_DATA_VALID,
        Checksum::Absent | Checksum::Partial { .. } => complete = transport_checksum(frame.bytes),
    }
    // num_buffers is 1: a frame never spans buffers.
    header[10] = 1;
    chain.write(memory, 0, &header)?;
    chain.write(memory, NET_HEADER, frame.bytes)?;
    if let Some((at, checksum)) = complete {
        chain.write(memory, NET_HEADER + at, &checksum)?;
    }
    Ok(())
}
