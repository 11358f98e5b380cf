//! What a fleet is, to whoever measures it.

use super::driver::Target;
use anyhow::Result;

/// Guests that are looked after. They are gone when it is dropped.
pub(super) trait Fleet {
    /// Starts its guests, all of them, as fast as it can: whom to ask. They need not answer yet.
    fn start_all(&mut self) -> Result<Vec<Target>>;

    /// Guests that came back to memory so far.
    fn wakes(&mut self) -> Result<u64>;

    /// Guests that are in memory.
    fn awake(&mut self) -> Result<u64>;

    /// Memory of all processes of the fleet, each with its share of what it shares, in KiB. It lacks what the kernel has for
    /// them.
    fn processes_kib(&mut self) -> Result<f64>;
}
