//! The devices of a guest: what it is told of them, what they are made of, what they count.

mod block;
mod console;
mod egress;
mod limit;
mod net;
mod vhost_user;

use crate::events::Events;
use crate::guest::padded_name;
use crate::output::Output;
use crate::sandbox::Needs;
use crate::start::StartError;
use denali_abi::boot::{DeviceEntry, KIND_BLOCK, KIND_CONSOLE, KIND_ENTROPY, KIND_NET};
use denali_abi::doorbell::DEVICES_MAX;
use denali_devices::virtio::VirtioDevice;
use denali_devices::{Bus, Interrupt};
use denali_hypervisor::GuestRam;
use denali_interrupts::{Batcher, Line};
use denali_launcher::spec::{
    BlockBackendSpec, IoSpec, MachineSpec, NetBackendSpec, NetSpec, PublishSpec, PublishedSocket,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Counters of each device, by the device's name.
pub(crate) type DeviceCounters = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// Kinds and names of all devices, in the order of their numbers.
pub(crate) fn kinds(spec: &MachineSpec) -> Vec<(u32, &str)> {
    let net = spec.net.iter().map(|net| (KIND_NET, net.name.as_str()));
    let block = spec.block.iter().map(|block| (KIND_BLOCK, block.name.as_str()));
    let console = spec.console.iter().map(|console| (KIND_CONSOLE, console.name.as_str()));
    let entropy = spec.entropy.iter().map(|entropy| (KIND_ENTROPY, entropy.name.as_str()));
    net.chain(block).chain(console).chain(entropy).collect()
}

/// What the guest is told of its devices.
///
/// # Errors
/// When there are more than a guest can have.
pub(crate) fn table(spec: &MachineSpec) -> Result<Vec<DeviceEntry>, StartError> {
    let kinds = kinds(spec);
    if kinds.len() > DEVICES_MAX {
        return Err(StartError::Spec("number of devices"));
    }
    let entry = |(number, &(kind, name)): (usize, &(u32, &str))| DeviceEntry {
        kind,
        number: number as u32,
        name: padded_name(name),
        ..spec.net.get(number).map_or(DeviceEntry::EMPTY, addresses)
    };
    Ok(kinds.iter().enumerate().map(entry).collect())
}

fn addresses(net: &NetSpec) -> DeviceEntry {
    let resolves = matches!(&net.backend, NetBackendSpec::User(user) if user.resolves);
    DeviceEntry {
        ipv4: net.address.octets(),
        gateway: net.gateway.octets(),
        name_server: if resolves { net.gateway.octets() } else { [0; 4] },
        prefix_len: net.prefix_len,
        mac: net.mac,
        ..DeviceEntry::EMPTY
    }
}

/// What the devices need of the sandbox.
pub(crate) fn needs(spec: &MachineSpec) -> Needs {
    let mut needs = Needs::default();
    for net in &spec.net {
        match &net.backend {
            NetBackendSpec::User(user) => {
                let is_udp = |port: &PublishSpec| matches!(port.socket, PublishedSocket::Udp(_));
                needs.datagrams |= user.publish.iter().any(is_udp);
                needs.broker |= user.broker.is_some();
            }
            NetBackendSpec::Tap { .. } | NetBackendSpec::Socket { .. } => needs.wire = true,
            NetBackendSpec::VhostUser { .. } => needs.vhost_user = true,
        }
    }
    for block in &spec.block {
        match block.backend {
            BlockBackendSpec::File { io, .. } => {
                needs.uring |= io != IoSpec::Sync;
                needs.disk |= io != IoSpec::IoUring;
            }
            BlockBackendSpec::VhostUser { .. } => needs.vhost_user = true,
        }
    }
    needs.broker |= needs.vhost_user;
    needs.control = spec.control.listener.is_some() || spec.control.channel.is_some();
    needs.swap = spec.swap.is_some();
    needs
}

/// Whether processes beside the monitor work on the guest's memory.
pub(crate) fn shares_memory(spec: &MachineSpec) -> bool {
    needs(spec).vhost_user
}

/// Makes all devices and attaches them in the order of their numbers.
///
/// # Errors
/// When the host refuses what a device is made of.
pub(crate) fn attach(
    spec: &MachineSpec,
    batcher: &Arc<Batcher>,
    ram: &GuestRam,
    events: &Events,
) -> Result<Bus<GuestRam>, StartError> {
    let surroundings = (ram, events, Output::new(spec.output));
    let mut attached = Attached { bus: Bus::new(), batcher };
    for net in &spec.net {
        attached.add(&net.name, net::create(net, surroundings))?;
    }
    for block in &spec.block {
        attached.add(&block.name, block::create(block, surroundings))?;
    }
    for console in &spec.console {
        attached.add(&console.name, console::create(console, events, surroundings.2))?;
    }
    for entropy in &spec.entropy {
        attached.add(&entropy.name, Ok(console::create_entropy(entropy)))?;
    }
    Ok(attached.bus)
}

/// The bus while devices are added to it.
struct Attached<'a> {
    bus: Bus<GuestRam>,
    batcher: &'a Arc<Batcher>,
}

impl Attached<'_> {
    fn add(
        &mut self,
        name: &str,
        device: io::Result<Box<dyn VirtioDevice<GuestRam>>>,
    ) -> Result<(), StartError> {
        let device =
            device.map_err(|source| StartError::Device { name: name.to_owned(), source })?;
        let line = self.batcher.device_line(self.bus.next_number());
        let line = line.ok_or(StartError::Spec("number of devices"))?;
        self.bus
            .attach(device, Box::new(DeviceLine(line)))
            .map_err(|_| StartError::Spec("number of devices"))?;
        Ok(())
    }
}

/// What each device has counted so far; `names` are in the order of the devices' numbers.
pub(crate) fn counters(names: &[String], bus: &Bus<GuestRam>) -> DeviceCounters {
    let of = |(number, name): (usize, &String)| {
        (name.clone(), bus.counters(number).into_iter().collect())
    };
    names.iter().enumerate().map(of).collect()
}

/// The line of one device, as the devices crate sees it.
struct DeviceLine(Line);

impl Interrupt for DeviceLine {
    fn raise(&self) {
        self.0.raise();
    }
}
