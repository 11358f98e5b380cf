//! Disks and network cards whose queues a vhost-user back end works on.

use crate::events::Events;
use crate::output::Output;
use crate::start::{StartError, inherited, io_error};
use denali_broker::{Answer, Client, Received};
use denali_devices::virtio::VirtioDevice;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{BlockBackendSpec, MachineSpec, NetBackendSpec};
use denali_vhost_user::{FrontEnd, MemoryRegion, Parts, Profile, Reconnect};
use serde::Serialize;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Whether a device of this guest has its queues worked on by another process, which must then be able
/// to map the guest's memory.
pub(crate) fn is_wanted(spec: &MachineSpec) -> bool {
    spec.net.iter().any(|net| matches!(net.backend, NetBackendSpec::VhostUser { .. }))
        || spec.block.iter().any(|block| matches!(block.backend, BlockBackendSpec::VhostUser { .. }))
}

/// How a back end fares, as programs are told.
#[derive(Serialize)]
#[serde(tag = "event", rename = "backend")]
struct BackEndEvent<'a> {
    device: &'a str,
    message: &'a str,
}

/// Makes the device `name` in front of the back end behind `socket`, woken through `events`; `broker`
/// connects anew when that back end has gone.
///
/// # Errors
/// When the back end does not answer in time or cannot do what is needed.
pub(crate) fn create(
    profile: Profile,
    name: &str,
    (socket, broker): (RawFd, RawFd),
    ram: &GuestRam,
    (events, output): (&Events, Output),
) -> Result<Box<dyn VirtioDevice<GuestRam>>, StartError> {
    let device = name.to_owned();
    let notice = move |message: &str| {
        output.message(&format!("denali: {device}: the vhost-user back end {message}"));
        output.event(&BackEndEvent { device: &device, message });
    };
    let front_end = FrontEnd::new(Parts {
        profile,
        memory: vec![region(ram).map_err(io_error("share guest memory"))?],
        stream: inherited(socket),
        reconnect: Box::new(Broker::new(inherited(broker))),
        notice: Box::new(notice),
    });
    let front_end = front_end
        .map_err(|failure| StartError::BackEnd { device: name.to_owned(), failure })?;
    events.watch(front_end.as_raw_fd()).map_err(io_error("watch a vhost-user back end"))?;
    Ok(Box::new(front_end))
}

/// All of RAM, as a back end is told of it.
fn region(ram: &GuestRam) -> io::Result<MemoryRegion> {
    let exported = ram.exported().ok_or(io::ErrorKind::Unsupported)?;
    Ok(MemoryRegion {
        guest_address: exported.guest_address,
        size: exported.size,
        host_address: exported.host_address,
        file: exported.file.try_clone_to_owned()?,
        offset: exported.offset,
    })
}

/// The broker as the one who connects anew.
struct Broker {
    client: Client,
    /// Number of the last request; answers to others come too late.
    request: u32,
    unsent: bool,
}

impl Broker {
    fn new(channel: OwnedFd) -> Self {
        Self { client: Client::new(channel), request: 0, unsent: false }
    }
}

impl Reconnect for Broker {
    fn request(&mut self) {
        self.request = self.request.wrapping_add(1);
        self.unsent = self.client.reconnect(self.request).is_err();
    }

    fn try_take(&mut self) -> Option<io::Result<OwnedFd>> {
        if std::mem::take(&mut self.unsent) {
            return Some(Err(io::ErrorKind::NotConnected.into()));
        }
        loop {
            return match self.client.receive() {
                Received::Answer(Answer::Connected { id, socket }) if id == self.request => {
                    Some(Ok(socket))
                }
                Received::Answer(Answer::Failed { id, .. }) if id == self.request => {
                    Some(Err(io::ErrorKind::ConnectionRefused.into()))
                }
                Received::Answer(_) => continue,
                Received::Nothing => None,
                Received::Gone => Some(Err(io::ErrorKind::NotConnected.into())),
            };
        }
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        Some(self.client.as_raw_fd())
    }
}
