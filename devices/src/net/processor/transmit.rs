//! Frames of the guest, on their way to the back end.

use super::{BYTES_MAX, CHAINS_MAX, Outcome, OwnHeader, Processor, Service, append, get, set};
use crate::net::NET_HEADER;
use crate::net::backend::Sent;
use crate::net::header::{Header, SEGMENT_MAX};
use crate::net::memory::{Packet, Piece};
use crate::virtio::{DeviceQueue, Direction, Part, QueueError};
use vm_memory::GuestMemory;

impl Processor {
    /// Hands the guest's frames to the back end, from where they lie.
    pub(crate) fn transmit<M: GuestMemory>(
        &mut self,
        queue: &mut DeviceQueue,
        memory: &M,
        service: &mut Service<'_>,
    ) -> Result<Outcome, QueueError> {
        let own = OwnHeader::default();
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut bytes = 0;
        for _ in 0..CHAINS_MAX {
            // A frame passes while there is no debt; its size is known once it is taken.
            if !service.limiter.passes(0, service.now_ns) {
                service.metrics.transmit_throttled += 1;
                return Ok(Outcome::Blocked);
            }
            if !queue.take(memory, Direction::FromDriver, &mut self.outgoing)? {
                return Ok(Outcome::Done);
            }
            let total = self.outgoing.total();
            pieces.clear();
            pieces.push(Piece::of_own(&own));
            match self.check(memory, &own, service)? {
                Some(header) => {
                    append(&self.outgoing, memory, Part::Readable, NET_HEADER, &mut pieces)?;
                    if service.backend.transmit(&Packet::new(&pieces)) == Sent::Later {
                        queue.put_back();
                        return Ok(Outcome::Blocked);
                    }
                    let frame = total - NET_HEADER;
                    service.metrics.transmit_frames += 1;
                    service.metrics.transmit_packets += header.packets(frame);
                    service.metrics.transmit_bytes += frame as u64;
                    service.limiter.charge(frame as u64);
                }
                None => service.metrics.transmit_errors += 1,
            }
            queue.give_back(memory, self.outgoing.head(), 0)?;
            bytes += total.min(NET_HEADER + SEGMENT_MAX);
            if bytes >= BYTES_MAX {
                break;
            }
        }
        Ok(if queue.has_available(memory)? { Outcome::More } else { Outcome::Done })
    }

    /// Copies the frame's header out of guest memory, once, and checks it; `own` is then what the
    /// back end sees. `None` for a frame that is dropped.
    fn check<M: GuestMemory>(
        &self,
        memory: &M,
        own: &OwnHeader,
        service: &Service<'_>,
    ) -> Result<Option<Header>, QueueError> {
        let Some(frame) = self.outgoing.total().checked_sub(NET_HEADER) else { return Ok(None) };
        let mut bytes = get(own);
        self.outgoing.read(memory, &mut bytes)?;
        let terms = &service.terms;
        let header = Header::parse(&bytes, frame, terms.from_guest, terms.frame_max);
        // That a checksum is good, a driver cannot know of its own frames.
        let header = header.map(|header| Header { valid: false, ..header });
        if let Some(header) = header {
            set(own, &header.bytes());
        }
        Ok(header)
    }
}
