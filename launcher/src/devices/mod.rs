//! Opens what the devices of a guest are connected to.

mod block;
mod channels;
mod console;
mod net;

use crate::error::LaunchError;
use crate::opened::Opened;
use crate::spec::{BlockSpec, ConsoleSpec, EntropySpec, NetSpec};
use channels::Channels;
use denali_config::{Document, Guest};
use std::path::Path;

/// All devices of a guest, open.
pub(crate) struct Devices {
    pub(crate) net: Vec<NetSpec>,
    pub(crate) block: Vec<BlockSpec>,
    pub(crate) console: Vec<ConsoleSpec>,
    pub(crate) entropy: Vec<EntropySpec>,
}

/// Where a field was written, for messages.
pub(crate) struct Place<'a> {
    document: &'a Document,
    field: String,
}

impl<'a> Place<'a> {
    pub(crate) fn new(document: &'a Document, field: String) -> Self {
        Self { document, field }
    }

    /// The host cannot provide what the field asks for.
    pub(crate) fn unavailable(&self, why: impl std::fmt::Display) -> LaunchError {
        let origin = self.document.origin(&self.field);
        LaunchError::Host(format!("{origin}: {}: {why}", self.field))
    }
}

/// Opens the devices of `guest` in the order of their numbers. `broker` is where the broker was built.
pub(crate) fn open(
    guest: &Guest,
    document: &Document,
    broker: &Path,
    opened: &mut Opened,
) -> Result<Devices, LaunchError> {
    let mut channels = Channels::open(guest, document, broker)?;
    let place = |kind: &str, number: usize, name: &str| {
        Place::new(document, format!("{kind}[{number}].backend{name}"))
    };
    let mut net = Vec::with_capacity(guest.net.len());
    for (number, config) in guest.net.iter().enumerate() {
        net.push(net::open(number, config, &mut channels, opened, &|name| {
            place("net", number, name)
        })?);
    }
    let mut block = Vec::with_capacity(guest.block.len());
    for (number, config) in guest.block.iter().enumerate() {
        block.push(block::open(config, &mut channels, opened, &|name| {
            place("block", number, name)
        })?);
    }
    let mut console = Vec::with_capacity(guest.console.len());
    for (number, config) in guest.console.iter().enumerate() {
        console.push(console::open(config, opened, &|name| place("console", number, name))?);
    }
    let entropy = guest
        .entropy
        .iter()
        .map(|entropy| EntropySpec { name: entropy.name.clone(), limit: entropy.limit.into() });
    Ok(Devices { net, block, console, entropy: entropy.collect() })
}
