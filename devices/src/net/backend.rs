//! What the network card needs of whatever carries its frames.

/// An Ethernet frame, without preamble and check sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The frame from its destination address on.
    pub bytes: &'a [u8],
    /// The state of its transport checksum.
    pub checksum: Checksum,
}

/// The state of a frame's transport (TCP or UDP) checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// In the frame, as far as this side knows; whether it is right, the receiver must see.
    Complete,
    /// Left to the receiver: the ones' complement sum from `start` to the frame's end belongs at
    /// `start + offset`, where the sum of the pseudo header already is. Both lie in the frame.
    Partial {
        /// First byte that the sum covers.
        start: u16,
        /// Where from there the sum belongs.
        offset: u16,
    },
    /// Not computed, because the frame has never left this machine's memory: it is good as it is.
    Absent,
}

/// Carries frames away from and towards one network card.
///
/// At each service the card calls `begin`, then `transmit` for every frame of the guest, then
/// `process`, then `peek` and `consume` for as many frames as the guest has buffers for.
pub trait NetBackend {
    /// A service begins; `now_ns` is monotonic time.
    fn begin(&mut self, now_ns: u64);

    /// Takes a frame of the guest. It never blocks, and drops what it cannot carry.
    fn transmit(&mut self, frame: Frame<'_>);

    /// The guest has no more frames for now: does everything else there is to do.
    fn process(&mut self);

    /// The next frame for the guest, which stays until consumed. The back end bounds how many wait.
    fn peek(&mut self) -> Option<Frame<'_>>;

    /// Drops the frame that [`NetBackend::peek`] shows.
    fn consume(&mut self);

    /// It could do more at once, if it were called again: for instance, its frames had no room.
    fn has_work(&self) -> bool;

    /// When it must be called next at the latest, in nanoseconds of monotonic time.
    fn deadline(&self) -> Option<u64>;

    /// Counters by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}
