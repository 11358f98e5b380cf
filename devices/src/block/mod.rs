//! The virtio block device (virtio 1.2, section 5.2).

mod backend;
mod device;
mod gather;
mod metrics;
mod queue;
mod request;
#[cfg(test)]
mod tests;

pub use backend::{BlockBackend, Failed, Geometry, Operation, RequestId, Wake};
pub use device::{BlockConfig, BlockDevice, QUEUE_SIZE};
pub use metrics::BlockMetrics;
