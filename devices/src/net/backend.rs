//! What the network card needs of whatever carries its frames.

use super::memory::{Packet, Room};

/// What a back end can take off a driver's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// It accepts frames whose transport checksum is left to it, and may deliver such frames.
    pub checksums: bool,
    /// It accepts TCP segments that are larger than a packet, and may deliver such segments. Only
    /// together with `checksums`.
    pub segments: bool,
}

/// What a driver takes off the back end's hands: as much of [`Offers`] as was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Frames whose transport checksum is left to it, or was never computed.
    pub checksums: bool,
    /// TCP segments over IPv4 that are larger than a packet.
    pub segments_v4: bool,
    /// The same over IPv6.
    pub segments_v6: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or lost.
    Taken,
    /// There is no room for it. It is offered again, once the back end has had itself woken.
    Later,
}

/// Carries frames away from and towards one network card.
///
/// At each service the card calls `begin`, then `transmit` for the guest's frames, then `process`,
/// then `receive` for as many frames as the guest has buffers for. Frames travel with a virtio
/// header in front (12 bytes, virtio 1.2, section 5.1.6), which the card checks in both directions.
pub trait NetBackend {
    /// What it can take off a driver's hands. Always the same.
    fn offers(&self) -> Offers;

    /// A driver is there and takes this, or there is none any more: until there is, the back end
    /// delivers nothing and wakes nobody.
    fn agree(&mut self, wanted: Option<Wanted>);

    /// A service begins; `now_ns` is monotonic time.
    fn begin(&mut self, now_ns: u64);

    /// Takes a frame of the guest. It never blocks, and drops what it cannot carry.
    fn transmit(&mut self, packet: &Packet<'_, '_>) -> Sent;

    /// The guest has no more frames for now: does everything else there is to do.
    fn process(&mut self);

    /// Whether a frame for the guest may wait. False is certain.
    fn ready(&mut self) -> bool;

    /// Puts the next frame for the guest, with its header, into `room`; returns how many bytes both
    /// have together, at least the header's. If that is more than there was room for, the card
    /// drops the frame. `None` if no frame waits.
    fn receive(&mut self, room: &mut Room<'_, '_>) -> Option<usize>;

    /// Whether the guest has buffers for frames: while it has none, frames wake nobody. Where the
    /// back end bounds what waits by itself, it need not care.
    fn want_frames(&mut self, wanted: bool) {
        let _ = wanted;
    }

    /// Whether there is anything at the other end.
    fn link_up(&self) -> bool {
        true
    }

    /// It could do more at once, if it were called again: for instance, its frames had no room.
    fn has_work(&self) -> bool;

    /// When it must be called next at the latest, in nanoseconds of monotonic time.
    fn deadline(&self) -> Option<u64>;

    /// Gives back memory that it keeps for what may come soon: nothing will for a while.
    fn tidy(&mut self) {}

    /// Why it cannot be taken away from its card and another be put in its place, as what follows "the
    /// device": for instance, it carries connections. What only waits at the host, and will wait there
    /// for the other, is no reason.
    fn busy(&self) -> Option<&'static str> {
        None
    }

    /// Counters by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
