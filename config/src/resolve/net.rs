//! Network devices, checked.

use super::limit::{self, Limit};
use super::names::Names;
use super::socket_path;
use crate::error::{FieldError, quoted};
use crate::values::{Destination, MacAddress, Ports, Protocol, Publish, Subnet};
use crate::written::{
    EgressConfig, NetBackendConfig, NetConfig, SwitchBackendConfig, UserBackendConfig,
};
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Most published ports of one device.
const PUBLISH_MAX: usize = 256;

/// Most published ports of one guest on a switch, and most ports that wake it.
const SWITCH_PUBLISH_MAX: usize = 16;
const WAKES_MAX: usize = 8;

/// Most egress rules of one device.
const EGRESS_MAX: usize = 256;

/// Most bytes of the name of a host's network interface.
const INTERFACE_NAME_MAX: usize = 15;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// Name of the device.
    pub name: String,
    /// MAC address of the guest.
    pub mac: MacAddress,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Address of the guest and its subnet.
    pub address: Subnet,
    /// Address of the gateway.
    pub gateway: Ipv4Addr,
    /// Limits of what reaches the guest.
    pub receive_limit: Limit,
    /// Limits of what leaves the guest.
    pub transmit_limit: Limit,
    /// What it is connected to.
    pub backend: NetBackend,
}

/// What a network device is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetBackend {
    /// A user-mode gateway.
    User(UserBackend),
    /// A tap device of the host, by name.
    Tap(String),
    /// The socket of a vhost-user back end.
    VhostUser(PathBuf),
    /// A listening SOCK_SEQPACKET socket.
    Socket(PathBuf),
    /// The switch of a supervisor.
    Switch(SwitchBackend),
}

/// A port of a supervisor's switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchBackend {
    /// Ports of the host that lead into the guest.
    pub publish: Vec<Publish>,
    /// Ports to which a packet must go to wake the guest; none = any.
    pub wakes: Vec<u16>,
}

/// A user-mode gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBackend {
    /// Ports of the host that lead into the guest.
    pub publish: Vec<Publish>,
    /// Most connections at once.
    pub max_connections: usize,
    /// What the guest may connect to.
    pub egress: Vec<EgressRule>,
    /// The name server that is asked for the guest; `None` is the host's own.
    pub resolver: Option<SocketAddr>,
}

impl UserBackend {
    /// Whether a name server answers the guest: some rule has a name.
    #[must_use]
    pub fn resolves(&self) -> bool {
        let named =
            |rule: &EgressRule| matches!(rule.to, Destination::Name(_) | Destination::Below(_));
        self.egress.iter().any(named)
    }
}

/// Something that a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    /// Where to.
    pub to: Destination,
    /// Ranges of ports, first and last of each.
    pub ports: Vec<(u16, u16)>,
    /// TCP or UDP.
    pub protocol: Protocol,
}

pub(super) fn resolve(
    configs: &[NetConfig],
    folder: &Path,
    names: &mut Names,
) -> Result<Vec<Net>, FieldError> {
    let mut networks = Vec::with_capacity(configs.len());
    let mut unique = Unique::default();
    for (index, config) in configs.iter().enumerate() {
        let name = names.take("net", index, config.name.as_deref())?;
        let net = network(index, config, name, folder)?;
        unique.check(index, &net)?;
        networks.push(net);
    }
    Ok(networks)
}

fn network(
    index: usize,
    config: &NetConfig,
    name: String,
    folder: &Path,
) -> Result<Net, FieldError> {
    let field = |name: &str| format!("net[{index}].{name}");
    let address = config.address.unwrap_or_else(|| address_default(index));
    let gateway = config.gateway.map_or_else(|| gateway_default(address), |gateway| gateway.0);
    check_gateway(address, gateway).map_err(|why| FieldError::new(field("gateway"), why))?;
    let backend = backend(&config.backend, folder, &field("backend"))?;
    if matches!(backend, NetBackend::VhostUser(_)) && config.rate_limit.is_some() {
        let message = "is for the vhost-user back end to apply; configure it there";
        return Err(FieldError::new(field("rate_limit"), message));
    }
    let limits = config.rate_limit.unwrap_or_default();
    Ok(Net {
        name,
        mac: config.mac.unwrap_or_else(|| mac_default(index)),
        mtu: ranged(config.mtu, 576, 65535).map_err(|why| FieldError::new(field("mtu"), why))?,
        address,
        gateway,
        receive_limit: limit::resolve(limits.receive.as_ref(), &field("rate_limit.receive"))?,
        transmit_limit: limit::resolve(limits.transmit.as_ref(), &field("rate_limit.transmit"))?,
        backend,
    })
}

fn backend(
    config: &NetBackendConfig,
    folder: &Path,
    field: &str,
) -> Result<NetBackend, FieldError> {
    Ok(match config {
        NetBackendConfig::User(user) => NetBackend::User(user_backend(user, field)?),
        NetBackendConfig::Tap(name) => NetBackend::Tap(
            interface_name(name).map_err(|why| FieldError::new(format!("{field}.tap"), why))?,
        ),
        NetBackendConfig::VhostUser(text) => {
            NetBackend::VhostUser(socket_path(text, folder, &format!("{field}.vhost-user"))?)
        }
        NetBackendConfig::Socket(text) => {
            NetBackend::Socket(socket_path(text, folder, &format!("{field}.socket"))?)
        }
        NetBackendConfig::Switch(switch) => NetBackend::Switch(switch_backend(switch, field)?),
    })
}

fn user_backend(user: &UserBackendConfig, field: &str) -> Result<UserBackend, FieldError> {
    let field = |name: &str| format!("{field}.user.{name}");
    if user.publish.len() > PUBLISH_MAX {
        let message = format!("has {} ports; at most {PUBLISH_MAX}", user.publish.len());
        return Err(FieldError::new(field("publish"), message));
    }
    if user.egress.len() > EGRESS_MAX {
        let message = format!("has {} rules; at most {EGRESS_MAX}", user.egress.len());
        return Err(FieldError::new(field("egress"), message));
    }
    let resolved = UserBackend {
        publish: user.publish.clone(),
        max_connections: ranged(user.max_connections, 1, 16384)
            .map_err(|why| FieldError::new(field("max_connections"), why))?
            .into(),
        egress: user.egress.iter().map(egress_rule).collect(),
        resolver: user.resolver.map(|resolver| resolver.0),
    };
    if resolved.resolver.is_some() && !resolved.resolves() {
        let message =
            "is never asked, because no egress rule has a name; add one or leave this out";
        return Err(FieldError::new(field("resolver"), message));
    }
    Ok(resolved)
}

fn switch_backend(switch: &SwitchBackendConfig, field: &str) -> Result<SwitchBackend, FieldError> {
    let few = |name: &str, count: usize, most: usize| match count <= most {
        true => Ok(()),
        false => Err(FieldError::new(
            format!("{field}.switch.{name}"),
            format!("has {count} ports; at most {most}"),
        )),
    };
    few("publish", switch.publish.len(), SWITCH_PUBLISH_MAX)?;
    few("wakes", switch.wakes.len(), WAKES_MAX)?;
    Ok(SwitchBackend { publish: switch.publish.clone(), wakes: switch.wakes.clone() })
}

fn egress_rule(config: &EgressConfig) -> EgressRule {
    let Ports(ports) = config.ports.clone();
    EgressRule { to: config.to.clone(), ports, protocol: config.protocol }
}

pub(crate) fn interface_name(name: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'%' && byte != b':';
    let special = name.is_empty() || name == "." || name == "..";
    if special || name.len() > INTERFACE_NAME_MAX || !name.bytes().all(plain) {
        return Err(format!(
            "{} is not the name of a network interface (1 to {INTERFACE_NAME_MAX} characters); \
             write e.g. \"tap0\"",
            quoted(name)
        ));
    }
    Ok(name.to_owned())
}

/// 02:00:00:00:00:01 (locally administered) for the first device, and upwards.
fn mac_default(index: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, index as u8 + 1])
}

/// 10.0.2.15/24 for the first device, 10.0.3.15/24 for the next, and so on.
fn address_default(index: usize) -> Subnet {
    Subnet { address: Ipv4Addr::new(10, 0, index as u8 + 2, 15), prefix_len: 24 }
}

/// The second address of the subnet, or the first where the guest has the second.
fn gateway_default(subnet: Subnet) -> Ipv4Addr {
    let second = subnet.nth(2);
    if second == subnet.address { subnet.nth(1) } else { second }
}

fn check_gateway(subnet: Subnet, gateway: Ipv4Addr) -> Result<(), String> {
    if gateway == subnet.address {
        return Err(format!("{gateway} is the guest's own address; choose another"));
    }
    if !subnet.has_host(gateway) {
        return Err(format!(
            "{gateway} is not the address of a host in {subnet}; choose one there"
        ));
    }
    Ok(())
}

/// `value` if it is from `least` to `most`.
fn ranged(value: u64, least: u16, most: u16) -> Result<u16, String> {
    match u16::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("{value} is out of range; write a number from {least} to {most}")),
    }
}

/// What no two network devices may have in common.
#[derive(Default)]
struct Unique {
    macs: HashSet<[u8; 6]>,
    ports: HashSet<(Protocol, SocketAddr)>,
    taps: HashSet<String>,
    switch: bool,
}

impl Unique {
    fn check(&mut self, index: usize, net: &Net) -> Result<(), FieldError> {
        let taken = |field: &str, value: &dyn ToString| {
            let message = format!("{} is taken by an entry before it", value.to_string());
            Err(FieldError::new(format!("net[{index}].{field}"), message))
        };
        if !self.macs.insert(net.mac.0) {
            return taken("mac", &net.mac);
        }
        match &net.backend {
            NetBackend::Tap(name) if !self.taps.insert(name.clone()) => taken("backend.tap", name),
            NetBackend::Switch(_) if std::mem::replace(&mut self.switch, true) => {
                taken("backend", &"the switch")
            }
            NetBackend::User(user) => {
                let fixed = user.publish.iter().enumerate().filter(|(_, p)| p.host.port() != 0);
                for (number, publish) in fixed {
                    if !self.ports.insert((publish.protocol, publish.host)) {
                        let field = format!("backend.user.publish[{number}]");
                        return taken(&field, &publish.host);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
