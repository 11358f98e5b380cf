//! Turns a configuration into a machine whose every resource is open, and becomes its monitor.
//!
//! The monitor opens nothing itself. [`Launch::prepare`] checks the configuration and opens what the
//! guest needs: its image as a sealed copy in memory or from an [`ImageStore`], `/dev/kvm`, listening
//! sockets, its swap region and the key to it, the report file. [`Launch::take_over`] then makes the
//! calling program a place to run the monitor in, so that no parent remains and no second program has to
//! be loaded; [`Launch::spawn`] starts the monitor's own program as a child instead. Either way the
//! monitor has the standard streams and the descriptors named in its [`spec::MachineSpec`], and nothing
//! else: no environment, no other descriptor.

mod broker;
mod control;
mod devices;
mod error;
mod folder;
mod handed;
mod hash;
mod hypervisor;
mod image;
mod inherit;
mod kept;
mod listen;
mod opened;
mod pool;
mod prepare;
mod programs;
mod sealed;
mod snapshot;
mod spawn;
pub mod spec;
mod store;
mod swap;
mod take_over;

pub use control::control_listener;
pub use error::{LaunchError, WakeError};
pub use folder::open_own;
pub use handed::{await_machine, await_preparation};
pub use hash::ImageHash;
pub use hypervisor::{KvmProblem, open_kvm};
pub use image::{IMAGE_SIZE_MAX, SealedImage, read as read_image};
pub use kept::{Kept, Ready, Shared, Source};
pub use listen::open_port;
pub use pool::{Monitor, Pool, Waiting};
pub use prepare::{Launch, Published, Resume, Settings};
pub use programs::{find_monitor, find_switch};
pub use snapshot::Snapshot;
pub use spawn::Streams;
pub use store::ImageStore;
pub use swap::{Region, RegionError, SwapSpace, host_key};
