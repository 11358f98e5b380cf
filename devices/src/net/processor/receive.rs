//! Frames of the back end, on their way into the guest's buffers.

use super::{BYTES_MAX, Outcome, OwnHeader, Processor, Service, append, get};
use crate::net::checksum;
use crate::net::header::{Header, SEGMENT_MAX};
use crate::net::memory::{Piece, Room, copy_in, copy_out};
use crate::net::{NET_HEADER, backend::Wanted};
use crate::virtio::{Chain, DeviceQueue, Direction, Part, QueueError};
use std::cell::Cell;
use vm_memory::GuestMemory;

/// Most pieces of one frame: what a system call takes, without header and overflow.
const PIECES_MAX: usize = 1000;

impl Processor {
    /// Fills the guest's buffers with the back end's frames, where they lie.
    pub(crate) fn receive<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &mut Service<'_>,
    ) -> Result<Outcome, QueueError> {
        if !queue.ready() {
            return Ok(Outcome::Done);
        }
        let outcome = self.fill(queue, memory, service);
        // What was taken and not filled, the guest still offers.
        for chain in self.taken.drain(..) {
            queue.put_back();
            self.spare.push(chain);
        }
        outcome
    }

    fn fill<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &mut Service<'_>,
    ) -> Result<Outcome, QueueError> {
        let own = OwnHeader::default();
        let overflow = [Cell::new(0)];
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let (mut bytes, mut frames) = (0, 0);
        while service.backend.ready() {
            if bytes >= BYTES_MAX || frames >= service.receive_max {
                return Ok(Outcome::More);
            }
            if !service.limiter.passes(0, service.now_ns) {
                service.metrics.receive_throttled += 1;
                service.backend.want_frames(false);
                return Ok(Outcome::Blocked);
            }
            if !self.take_buffers(queue, memory, service)? {
                // A guest that has just got frames brings their buffers back when it runs.
                service.backend.want_frames(frames > 0);
                return Ok(Outcome::Blocked);
            }
            pieces.clear();
            pieces.push(Piece::of_own(&own));
            let mut skip = NET_HEADER;
            for chain in &self.taken {
                append(chain, memory, Part::Writable, skip, &mut pieces)?;
                skip -= skip.min(chain.total());
            }
            pieces.push(Piece::of_own(&overflow));
            let Some(length) = service.backend.receive(&mut Room::new(&pieces)) else {
                continue;
            };
            pieces.pop();
            self.deliver(queue, memory, service, &own, &pieces, length)?;
            bytes += length;
            frames += 1;
        }
        service.backend.want_frames(true);
        Ok(Outcome::Done)
    }

    /// Returns the buffers that a frame has filled, or keeps them if the frame is to be dropped.
    fn deliver<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &mut Service<'_>,
        own: &OwnHeader,
        pieces: &[Piece<'_>],
        length: usize,
    ) -> Result<(), QueueError> {
        let frame = length.saturating_sub(NET_HEADER);
        let room: usize = self.taken.iter().map(Chain::total).sum();
        let Some(header) = acceptable(&get(own), frame, service).filter(|_| length <= room) else {
            service.metrics.receive_errors += 1;
            return Ok(());
        };
        let header = complete(header, pieces, frame, service.terms.to_guest);
        let buffers = self.buffers_for(length);
        let mut bytes = header.bytes();
        bytes[10..12].copy_from_slice(&(buffers as u16).to_le_bytes());
        self.write_header(memory, &bytes)?;
        let mut left = length;
        self.filled.clear();
        for chain in self.taken.drain(..buffers) {
            let written = left.min(chain.total());
            left -= written;
            self.filled.push((chain.head(), written as u32));
            self.spare.push(chain);
        }
        queue.give_back_together(memory, &self.filled)?;
        service.metrics.receive_frames += 1;
        service.metrics.receive_packets += header.packets(frame);
        service.metrics.receive_bytes += frame as u64;
        service.limiter.charge(frame as u64);
        Ok(())
    }

    /// How many of the taken buffers `length` bytes fill.
    fn buffers_for(&self, length: usize) -> usize {
        let mut reached = 0;
        let before_last = |chain: &&Chain| {
            reached += chain.total();
            reached < length
        };
        self.taken.iter().take_while(before_last).count() + 1
    }

    fn write_header<M: GuestMemory>(
        &self,
        memory: &M,
        bytes: &[u8; NET_HEADER],
    ) -> Result<(), QueueError> {
        let mut rest = &bytes[..];
        for chain in &self.taken {
            let (now, later) = rest.split_at(rest.len().min(chain.total()));
            chain.write(memory, 0, now)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Takes as many buffers as the largest frame may need; false if the guest offers too few. Then
    /// it is asked to notify when it adds some.
    fn take_buffers<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &mut Service<'_>,
    ) -> Result<bool, QueueError> {
        if !self.take_offered(queue, memory, service)? {
            service.metrics.receive_starved += u64::from(!self.asked_for_buffers);
            self.asked_for_buffers = true;
            self.declined_buffers = false;
            // Buffers that came while it was asked bring no notification.
            let came = queue.ask_for_notification(memory)?;
            if !came || !self.take_offered(queue, memory, service)? {
                return Ok(false);
            }
        }
        self.asked_for_buffers = false;
        if !std::mem::replace(&mut self.declined_buffers, true) {
            queue.decline_notification(memory)?;
        }
        Ok(true)
    }

    fn take_offered<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &Service<'_>,
    ) -> Result<bool, QueueError> {
        while !self.suffices(queue.size(), service) {
            let mut chain = self.spare.pop().unwrap_or_default();
            if !queue.take(memory, Direction::ToDriver, &mut chain)? {
                self.spare.push(chain);
                return Ok(false);
            }
            self.taken.push(chain);
        }
        Ok(true)
    }

    /// Whether the taken buffers hold any frame. Without mergeable buffers one has to, and so do all
    /// that the guest can offer: a frame that is too large for them is dropped.
    fn suffices(&self, queue_size: u16, service: &Service<'_>) -> bool {
        let terms = &service.terms;
        if !terms.mergeable {
            return !self.taken.is_empty();
        }
        let segments = terms.to_guest.segments_v4 || terms.to_guest.segments_v6;
        let largest = if segments { SEGMENT_MAX.max(terms.frame_max) } else { terms.frame_max };
        let room: usize = self.taken.iter().map(Chain::total).sum();
        let pieces: usize =
            self.taken.iter().map(|chain| chain.segments(Part::Writable).len()).sum();
        room >= NET_HEADER + largest
            || self.taken.len() >= usize::from(queue_size)
            || pieces >= PIECES_MAX
    }
}

/// The header of a frame for the guest, if it is one that the guest takes, or can be made so.
fn acceptable(bytes: &[u8; NET_HEADER], frame: usize, service: &Service<'_>) -> Option<Header> {
    let terms = &service.terms;
    let taken = Wanted { checksums: true, ..terms.to_guest };
    Header::parse(bytes, frame, taken, terms.frame_max)
}

/// Completes the checksum of a frame where it lies, for a driver that wants checksums complete.
fn complete(header: Header, pieces: &[Piece<'_>], frame: usize, wanted: Wanted) -> Header {
    if wanted.checksums {
        return header;
    }
    if let Some((start, offset)) = header.checksum {
        let start = NET_HEADER + usize::from(start);
        let mut covered = vec![0; NET_HEADER + frame - start];
        copy_out(pieces, start, &mut covered);
        let sum = checksum::complement(&covered);
        copy_in(pieces, start + usize::from(offset), &sum.to_be_bytes());
    }
    Header { checksum: None, valid: false, ..header }
}
