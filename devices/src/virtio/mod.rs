//! Virtio as all devices share it: the device trait, the register file, queues and descriptor chains.

mod chain;
mod device;
mod in_flight;
mod mmio;
mod queue;
mod registers;
mod transport;

pub use chain::{Chain, Direction, HostSlice, Part};
pub use device::{Progress, VirtioDevice};
pub use in_flight::InFlight;
pub use mmio::MMIO_SIZE;
pub use queue::{DeviceQueue, QueueError};
pub use transport::Transport;
