//! The network card: Ethernet frames between a guest's two queues and a back end.

mod backend;
mod checksum;
mod device;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;

pub use backend::{Checksum, Frame, NetBackend};
pub use device::{NetConfig, NetDevice};
pub use metrics::NetMetrics;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_HEADER: usize = 14;
