//! Turns a configuration into a machine whose every resource is open, and becomes its monitor.
//!
//! The monitor opens nothing itself. [`Launch::prepare`] checks the configuration and opens what the
//! guest needs: its image as a sealed copy in memory, `/dev/kvm`, listening sockets, the report
//! file. [`Launch::exec`] then replaces the calling program by the monitor, so that no parent
//! remains; [`Launch::spawn`] starts the monitor as a child instead. Either way the monitor inherits
//! the standard streams and the descriptors named in its [`spec::MachineSpec`], and nothing else: no
//! environment, no other descriptor.

mod become_monitor;
mod error;
mod hypervisor;
mod image;
mod listen;
mod monitor;
mod prepare;
mod sealed;
pub mod spec;

pub use become_monitor::Streams;
pub use error::LaunchError;
pub use hypervisor::{KvmProblem, open_kvm};
pub use image::{IMAGE_SIZE_MAX, read as read_image};
pub use monitor::find as find_monitor;
pub use prepare::{Launch, Published, Settings};
