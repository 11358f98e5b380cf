//! Frames that arrive: taken from where the device has put them, several buffers as one if it must.

use super::super::checksum;
use super::super::queue::{ENTRIES, Queue};
use denali_abi::virtio::{NET_HEADER, NET_HEADER_DATA_VALID, NET_HEADER_NEEDS_CSUM};
use smoltcp::phy::RxToken;

/// Offset in the header of the number of buffers that a frame spans.
const BUFFERS: usize = 10;

/// Frames that arrive.
pub(crate) struct ReceiveQueue {
    pub(super) queue: Queue,
    /// Whether the device marks frames whose checksum is good.
    marked: bool,
    /// Room for a frame that does not lie in one piece, where frames may span buffers.
    bounce: Option<&'static mut [u8]>,
    /// A frame that opens a TCP connection was among them.
    pub(super) opening: bool,
}

/// Where a frame is: header and all.
#[derive(Clone, Copy)]
enum Place {
    /// From the start of this buffer on.
    Buffers(u16),
    /// In the room for such.
    Bounced,
    /// Nowhere: the device has not given what it announced.
    Lost,
}

/// The buffers of one frame.
struct Span {
    ids: [u16; ENTRIES],
    count: usize,
    /// Bytes of header and frame.
    len: usize,
    place: Place,
}

impl ReceiveQueue {
    /// Gives all buffers to the device. With `bounce`, frames may span several.
    pub(super) fn new(mut queue: Queue, marked: bool, bounce: Option<&'static mut [u8]>) -> Self {
        for id in 0..ENTRIES as u16 {
            queue.give_to_write(id);
        }
        Self { queue, marked, bounce, opening: false }
    }

    /// Takes the buffers of the next frame.
    fn take(&mut self) -> Option<Span> {
        let (id, len) = self.queue.take_used()?;
        let mut span = Span { ids: [id; ENTRIES], count: 1, len, place: Place::Buffers(id) };
        if self.bounce.is_some() && len >= NET_HEADER {
            let header = self.queue.buffer(id);
            let count = u16::from_le_bytes([header[BUFFERS], header[BUFFERS + 1]]);
            self.take_rest(&mut span, usize::from(count));
        }
        Some(span)
    }

    /// Takes the buffers after the first, of `count` in all. They are neighbours as long as the
    /// device uses them in the order it got them, which starts anew after the last one.
    fn take_rest(&mut self, span: &mut Span, count: usize) {
        for index in 1..count.min(ENTRIES) {
            let Some((id, len)) = self.queue.take_used() else {
                span.place = Place::Lost;
                return;
            };
            let full = index * self.queue.layout().large_len;
            match span.place {
                Place::Buffers(first)
                    if usize::from(first) + index != usize::from(id) || span.len != full =>
                {
                    self.bounce(span, span.len);
                    self.append(span, id, len);
                }
                Place::Bounced => self.append(span, id, len),
                Place::Buffers(_) | Place::Lost => {}
            }
            span.ids[index] = id;
            span.count += 1;
            span.len += len;
        }
    }

    /// Copies what is there of a frame into the room for frames in pieces.
    fn bounce(&mut self, span: &mut Span, len: usize) {
        span.place = Place::Lost;
        if let Some(bounce) = &mut self.bounce
            && let Some(to) = bounce.get_mut(..len)
        {
            to.copy_from_slice(self.queue.across(span.ids[0], len));
            span.place = Place::Bounced;
        }
    }

    /// Copies the next buffer of a frame behind what is there of it.
    fn append(&mut self, span: &mut Span, id: u16, len: usize) {
        if let (Place::Bounced, Some(bounce)) = (span.place, &mut self.bounce) {
            match bounce.get_mut(span.len..span.len + len) {
                Some(to) => to.copy_from_slice(&self.queue.buffer(id)[..len]),
                None => span.place = Place::Lost,
            }
        }
    }

    /// The frame, without its header, if it can be believed.
    fn frame(&self, span: &Span) -> &[u8] {
        let bytes = match (span.place, &self.bounce) {
            (Place::Buffers(first), _) => self.queue.across(first, span.len),
            (Place::Bounced, Some(bounce)) => &bounce[..span.len],
            _ => &[],
        };
        let Some((header, frame)) = bytes.split_at_checked(NET_HEADER) else {
            return &[];
        };
        let good = NET_HEADER_DATA_VALID | NET_HEADER_NEEDS_CSUM;
        let vouched = !self.marked || header[0] & good != 0;
        if vouched || checksum::is_right(frame) { frame } else { &[] }
    }
}

impl RxToken for &mut ReceiveQueue {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        let Some(span) = self.take() else {
            return process(&[]);
        };
        let frame = self.frame(&span);
        let opening = checksum::opens_connection(frame);
        let result = process(frame);
        self.opening |= opening;
        for &id in &span.ids[..span.count] {
            self.queue.give_to_write(id);
        }
        result
    }
}
