//! Frames that wait for the guest, and the link as the TCP/IP stack sees it.

use crate::Config;
use crate::classify::ETHERNET_HEADER;
use crate::flow::Flow;
use crate::packets::{DATAGRAM_HEADERS, write_datagram_headers};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{IPV4_HEADER_LEN, TCP_HEADER_LEN};
use std::collections::VecDeque;

/// Bytes of frames that may wait before connections are held back.
const WAITING_MAX: usize = 512 << 10;

/// Bytes beyond that which replies to the guest's own frames may take before they are dropped.
const REPLIES_MAX: usize = 64 << 10;

/// A bounded queue of frames in one buffer, written at its end and emptied from its front; the room
/// comes back when all are gone, which a guest that runs brings about at every batch.
#[derive(Debug)]
pub struct FrameQueue {
    buffer: Vec<u8>,
    used: usize,
    frames: VecDeque<(usize, usize)>,
    header: [u8; ETHERNET_HEADER],
    mtu: usize,
    /// A connection wanted to send and found no room, since this was last cleared.
    pub exhausted: bool,
    /// Replies dropped for want of room.
    pub dropped: u64,
}

impl FrameQueue {
    pub fn new(config: &Config) -> Self {
        let mut header = [0; ETHERNET_HEADER];
        header[..6].copy_from_slice(&config.guest_mac);
        header[6..12].copy_from_slice(&config.gateway_mac);
        header[12..].copy_from_slice(&[0x08, 0x00]);
        Self {
            buffer: Vec::new(),
            used: 0,
            frames: VecDeque::new(),
            header,
            mtu: usize::from(config.mtu),
            exhausted: false,
            dropped: 0,
        }
    }

    /// There is room for the largest frame of a connection.
    pub fn has_room(&self) -> bool {
        self.used + ETHERNET_HEADER + self.mtu <= WAITING_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame that has waited longest.
    pub fn front(&self) -> Option<&[u8]> {
        let &(start, end) = self.frames.front()?;
        Some(&self.buffer[start..end])
    }

    /// The frame queued last is a TCP segment without options and data: an acknowledgement, an end or
    /// a reset.
    pub fn ends_with_bare_segment(&self) -> bool {
        let bare = ETHERNET_HEADER + IPV4_HEADER_LEN + TCP_HEADER_LEN;
        self.frames.back().is_some_and(|&(start, end)| end - start == bare)
    }

    pub fn pop(&mut self) {
        self.frames.pop_front();
        if self.frames.is_empty() {
            self.used = 0;
        }
    }

    /// Gives the memory back, if no frame waits.
    pub fn trim(&mut self) {
        if self.frames.is_empty() {
            self.buffer = Vec::new();
            self.frames = VecDeque::new();
        }
    }

    /// Appends a whole frame that is a reply.
    pub fn push_reply(&mut self, frame: &[u8]) {
        if self.has_room_for_reply(frame.len()) {
            self.reserve(frame.len()).copy_from_slice(frame);
        } else {
            self.dropped += 1;
        }
    }

    /// Appends an IP packet that is a reply.
    pub fn push_reply_packet(&mut self, packet: &[u8]) {
        if self.has_room_for_reply(ETHERNET_HEADER + packet.len()) {
            self.reserve_packet(packet.len()).copy_from_slice(packet);
        } else {
            self.dropped += 1;
        }
    }

    /// Appends a datagram that the guest's peer sends; there must be room, and it must fit.
    pub fn push_datagram(&mut self, flow: &Flow, config: &Config, payload: &[u8]) {
        let packet = self.reserve_packet(DATAGRAM_HEADERS + payload.len());
        packet[DATAGRAM_HEADERS..].copy_from_slice(payload);
        write_datagram_headers(packet, flow, config.guest_ip);
    }

    fn has_room_for_reply(&self, length: usize) -> bool {
        self.used + length <= WAITING_MAX + REPLIES_MAX
    }

    /// Room for a frame of `length` bytes, which counts as queued.
    fn reserve(&mut self, length: usize) -> &mut [u8] {
        let (start, end) = (self.used, self.used + length);
        if end > self.buffer.len() {
            self.buffer.resize(end.next_power_of_two().max(4096), 0);
        }
        self.frames.push_back((start, end));
        self.used = end;
        &mut self.buffer[start..end]
    }

    fn reserve_packet(&mut self, length: usize) -> &mut [u8] {
        let header = self.header;
        let frame = self.reserve(ETHERNET_HEADER + length);
        frame[..ETHERNET_HEADER].copy_from_slice(&header);
        &mut frame[ETHERNET_HEADER..]
    }
}

/// The link for one step of the stack: at most one packet comes in, any number go out.
pub struct Link<'f, 'q> {
    pub incoming: Option<&'f [u8]>,
    pub queue: &'q mut FrameQueue,
}

/// The packet that comes in.
pub struct Incoming<'a>(&'a [u8]);

/// Room for a packet that goes out.
pub struct Outgoing<'a> {
    queue: &'a mut FrameQueue,
    /// It answers a packet of the guest, and is dropped when there is no room.
    reply: bool,
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        if self.reply && !self.queue.has_room_for_reply(ETHERNET_HEADER + length) {
            self.queue.dropped += 1;
            return f(&mut vec![0; length]);
        }
        f(self.queue.reserve_packet(length))
    }
}

impl Device for Link<'_, '_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing { queue: self.queue, reply: true }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        if self.queue.has_room() {
            return Some(Outgoing { queue: self.queue, reply: false });
        }
        self.queue.exhausted = true;
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.queue.mtu;
        // Packets never leave this machine's memory: nothing is verified, and of what is sent only
        // the short IP header is summed, because receivers look at that whatever a card promises.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.icmpv4 = Checksum::Tx;
        capabilities
    }
}
