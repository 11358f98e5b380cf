//! Devices whose queues another process works on: vhost-user front ends, connected anew by the broker.

use crate::events::Events;
use crate::output::Output;
use crate::start::inherited;
use denali_broker::{Answer, Client, Received, Unsent};
use denali_hypervisor::GuestRam;
use denali_vhost_user::{FrontEnd, MemoryRegion, Parts, Profile, Reconnect};
use serde::Serialize;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// How a back end fares, as programs are told.
#[derive(Serialize)]
#[serde(tag = "event", rename = "backend")]
struct BackEndEvent<'a> {
    device: &'a str,
    message: &'a str,
}

/// Makes a front end of the connection `socket`, and of a channel to the broker.
pub(super) fn create(
    name: &str,
    profile: Profile,
    (socket, broker): (RawFd, RawFd),
    surroundings: (&GuestRam, &Events, Output),
) -> io::Result<FrontEnd> {
    let (ram, events, output) = surroundings;
    let name = name.to_owned();
    let parts = Parts {
        profile,
        memory: memory(ram)?,
        stream: inherited(socket),
        reconnect: Box::new(BrokerChannel::new(inherited(broker))),
        notice: Box::new(move |message| {
            output.message(&format!("denali: {name}: the vhost-user back end {message}"));
            output.event(&BackEndEvent { device: &name, message });
        }),
    };
    let front_end = FrontEnd::new(parts)
        .map_err(|failure| io::Error::other(format!("the vhost-user back end {failure}")))?;
    events.watch(front_end.as_raw_fd())?;
    Ok(front_end)
}

fn memory(ram: &GuestRam) -> io::Result<Vec<MemoryRegion>> {
    let Some(region) = ram.exported() else {
        return Err(io::Error::other("the guest's memory cannot be shared"));
    };
    Ok(vec![MemoryRegion {
        guest_address: region.guest_address,
        size: region.size,
        host_address: region.host_address,
        file: region.file.try_clone_to_owned()?,
        offset: region.offset,
    }])
}

/// The broker as the one who connects again.
struct BrokerChannel {
    client: Client,
    /// Number of the last request; answers to older ones are dropped.
    request: u32,
    /// Why the last request was not sent, until that is told.
    unsent: Option<io::Error>,
}

impl BrokerChannel {
    fn new(socket: OwnedFd) -> Self {
        Self { client: Client::new(socket), request: 0, unsent: None }
    }
}

impl Reconnect for BrokerChannel {
    fn request(&mut self) {
        self.request = self.request.wrapping_add(1);
        self.unsent = match self.client.reconnect(self.request) {
            Ok(()) => None,
            Err(Unsent::Later) => Some(io::ErrorKind::WouldBlock.into()),
            Err(Unsent::Never) => Some(io::ErrorKind::BrokenPipe.into()),
        };
    }

    fn try_take(&mut self) -> Option<io::Result<OwnedFd>> {
        if let Some(error) = self.unsent.take() {
            return Some(Err(error));
        }
        loop {
            match self.client.receive() {
                Received::Answer(Answer::Connected { id, socket }) if id == self.request => {
                    return Some(Ok(socket));
                }
                Received::Answer(Answer::Failed { id, .. }) if id == self.request => {
                    return Some(Err(io::ErrorKind::ConnectionRefused.into()));
                }
                Received::Answer(_) => {}
                Received::Nothing => return None,
                Received::Gone => return Some(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        Some(self.client.as_raw_fd())
    }
}
