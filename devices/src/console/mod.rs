//! The console: a stream of bytes each way between a guest's two queues and a back end (virtio 1.2,
//! section 5.3), with one port.

mod backend;
mod device;
mod metrics;
mod queue;
#[cfg(test)]
mod tests;

pub use backend::ConsoleBackend;
pub use device::ConsoleDevice;
pub use metrics::ConsoleMetrics;
