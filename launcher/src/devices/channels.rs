//! Channels to the broker: which devices of a guest need one, and for what.

use super::Place;
use crate::broker;
use crate::error::LaunchError;
use crate::programs::find_broker;
use denali_broker::{Policy, Protocol, Rule, Service, Target, resolver};
use denali_config::{
    BlockBackend, Destination, Document, EgressRule, Guest, Net, NetBackend, UserBackend,
};
use std::net::SocketAddr;
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
            NetBackend::User(user) if !user.egress.is_empty() => {
                let field = format!("net[{number}].backend.user.resolver");
                services.push(egress(net, user, &Place::new(document, field))?);
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

fn egress(net: &Net, user: &UserBackend, place: &Place<'_>) -> Result<Service, LaunchError> {
    let policy = Policy {
        rules: user.egress.iter().map(rule).collect(),
        address: net.address.address,
        prefix_len: net.address.prefix_len,
        gateway: net.gateway,
    };
    let resolvers = match user.resolver {
        Some(resolver) => vec![resolver],
        None if policy.resolves() => host_resolvers(place)?,
        None => Vec::new(),
    };
    Ok(Service::Egress { policy, resolvers })
}

fn host_resolvers(place: &Place<'_>) -> Result<Vec<SocketAddr>, LaunchError> {
    let file = resolver::RESOLV_CONF;
    let listed = resolver::listed(Path::new(file)).map_err(|error| {
        place.unavailable(format_args!("{file} cannot be read: {error}; name a resolver here"))
    })?;
    if listed.is_empty() {
        let why = format!("{file} lists no name server; name a resolver here");
        return Err(place.unavailable(why));
    }
    Ok(listed)
}

fn rule(rule: &EgressRule) -> Rule {
    Rule {
        target: match &rule.to {
            Destination::Range(address, prefix_len) => Target::Range(*address, *prefix_len),
            Destination::Name(name) => Target::Name(name.clone()),
            Destination::Below(name) => Target::Below(name.clone()),
            Destination::Host => Target::Host,
        },
        ports: rule.ports.clone(),
        protocol: match rule.protocol {
            denali_config::Protocol::Tcp => Protocol::Tcp,
            denali_config::Protocol::Udp => Protocol::Udp,
        },
    }
}
