//! An account of the chains that were taken from a queue and not yet returned.

use std::fmt::Debug;

/// Keeps account of a queue's chains outside this process, so that whoever takes the queue over after a
/// crash knows which chains the driver still waits for. Chains are named by their heads.
pub trait InFlight: Debug + Send {
    /// A chain was taken.
    fn taken(&mut self, head: u16);

    /// A chain was put back, and will be taken again.
    fn put_back(&mut self, head: u16);

    /// A chain is about to be entered in the used ring.
    fn returning(&mut self, head: u16);

    /// It is in the used ring, whose index is `used` since then.
    fn returned(&mut self, head: u16, used: u16);
}
