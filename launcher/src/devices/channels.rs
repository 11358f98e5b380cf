//! Channels to the broker: which devices of a guest need one, and for what.

use super::Place;
use crate::broker;
use crate::error::LaunchError;
use crate::programs::find_broker;
use denali_broker::Service;
use denali_config::{BlockBackend, Document, Guest, NetBackend};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The monitor's ends of the channels, in the order in which devices that need one are opened.
pub(super) struct Channels(std::vec::IntoIter<OwnedFd>);

impl Channels {
    /// Starts the broker for the devices of `guest`; nothing is started when none needs it. `built` is
    /// where the broker's program was built.
    pub(super) fn open(
        guest: &Guest,
        document: &Document,
        built: &Path,
    ) -> Result<Self, LaunchError> {
        let services = services(guest, document)?;
        let ends = if services.is_empty() {
            Vec::new()
        } else {
            broker::start(&find_broker(built)?, services)?
        };
        Ok(Self(ends.into_iter()))
    }

    /// The channel of the next device.
    pub(super) fn next(&mut self) -> Result<OwnedFd, LaunchError> {
        self.0.next().ok_or_else(|| LaunchError::Host("the broker has too few channels".into()))
    }
}

fn services(guest: &Guest, document: &Document) -> Result<Vec<Service>, LaunchError> {
    let mut services = Vec::new();
    for (number, net) in guest.net.iter().enumerate() {
        match &net.backend {
            NetBackend::User(user) => {
                let place = Place::new(document, format!("net[{number}].backend.user.resolver"));
                let service = broker::egress(net, user).map_err(|why| place.unavailable(why))?;
                services.extend(service);
            }
            NetBackend::VhostUser(path) => services.push(Service::Socket { path: path.clone() }),
            _ => {}
        }
    }
    for block in &guest.block {
        if let BlockBackend::VhostUser(path) = &block.backend {
            services.push(Service::Socket { path: path.clone() });
        }
    }
    Ok(services)
}
