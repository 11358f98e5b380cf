//! The network card: Ethernet frames between a guest's two queues and a back end.

mod backend;
mod checksum;
mod device;
mod header;
mod memory;
mod metrics;
mod processor;
#[cfg(test)]
mod tests;

pub use backend::{NetBackend, Offers, Sent, Wanted};
pub use denali_abi::virtio::{NET_HEADER, NET_HEADER_DATA_VALID};
pub use device::{NetConfig, NetDevice};
pub use memory::{Packet, Piece, Room};
pub use metrics::NetMetrics;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_HEADER: usize = 14;
