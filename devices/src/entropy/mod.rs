//! The entropy device: fills a guest's buffers with random bytes of the host (virtio 1.2, section 5.4).

mod backend;
mod device;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;

pub use backend::EntropySource;
pub use device::EntropyDevice;
pub use metrics::EntropyMetrics;
