//! Back ends of virtio devices for other virtual machine monitors, over vhost-user: what the programs
//! `denali-vhost-user-blk` and `denali-vhost-user-net` share.
//!
//! A back end runs the same device code as the monitor ([`denali_devices`]) on memory and rings that a
//! front end (Denali, QEMU, Cloud Hypervisor, Firecracker, …) hands over a unix socket:
//!
//! - [`serve`] listens, and starts a process for each front end, one at a time. Whatever a front end
//!   does to the process that serves it, the next one finds a fresh one;
//! - [`session`] is that process's loop: one thread, one epoll descriptor;
//! - [`front_end`] answers the front end's requests: features, memory, rings;
//! - [`ring`] is one virtqueue with its eventfds; [`in_flight`] keeps account of its requests in memory
//!   that outlives the process, so that a crash loses none;
//! - [`sandbox`] lists the system calls that are left once everything is open.
//!
//! The messages are parsed by the `vhost` crate. Its companion `vhost-user-backend` is not used: it has
//! no account of requests in flight, and works on rings in threads of its own.

pub mod arguments;
pub mod early;
pub mod front_end;
pub mod in_flight;
pub mod memory;
pub mod ring;
pub mod sandbox;
pub mod serve;
pub mod session;
pub mod socket;

use denali_devices::virtio::VirtioDevice;
use memory::Memory;
use std::os::fd::RawFd;

/// A device to be served.
pub struct Device {
    /// The device.
    pub device: Box<dyn VirtioDevice<Memory>>,
    /// A descriptor that is readable while the device has something to do, other than its rings.
    pub wake: Option<RawFd>,
    /// Its configuration space is the front end's to read. Network cards are configured by front ends.
    pub config: bool,
}
