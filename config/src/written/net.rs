//! Network devices as they are written in JSON.

use super::limit::LimitConfig;
use crate::values::{Address, Destination, MacAddress, Ports, Protocol, Publish, Resolver, Subnet};
use serde::{Deserialize, Serialize};

/// A network device, as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the device; `net0`, `net1`, … by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 24)))]
    pub name: Option<String>,
    /// MAC address of the guest; by default 02:00:00:00:00:01 and upwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Largest IP packet in bytes, 576 to 65535.
    #[serde(default = "mtu_default")]
    #[cfg_attr(feature = "schema", schemars(range(min = 576, max = 65535)))]
    pub mtu: u64,
    /// IPv4 address of the guest and bits of its subnet's prefix; by default 10.0.2.15/24 for the
    /// first device, 10.0.3.15/24 for the next, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Subnet>,
    /// IPv4 address of the gateway, in the same subnet; by default its second address (10.0.2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Address>,
    /// Limits of what the device carries; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<NetLimitConfig>,
    /// What the device is connected to.
    pub backend: NetBackendConfig,
}

/// Limits of a network device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetLimitConfig {
    /// What reaches the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive: Option<LimitConfig>,
    /// What leaves the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit: Option<LimitConfig>,
}

/// What a network device is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetBackendConfig {
    /// A user-mode gateway, which needs no privilege: ports of the host lead into the guest, and the
    /// guest reaches what it is allowed to.
    User(UserBackendConfig),
    /// A tap device of the host, by its name; made if there is none and the user may.
    Tap(String),
    /// The socket of a vhost-user back end.
    VhostUser(String),
    /// A listening SOCK_SEQPACKET socket; each datagram is a virtio-net header and a frame.
    Socket(String),
    /// The switch of a supervisor: for guests that `denali create` makes.
    Switch(SwitchBackendConfig),
}

/// A port of a supervisor's switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchBackendConfig {
    /// Ports of the host that lead into the guest, as with the user-mode gateway; host port 0 takes any
    /// free port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub publish: Vec<Publish>,
    /// TCP and UDP ports to which a packet must go to wake the guest while it is parked; any by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8)))]
    pub wakes: Vec<u16>,
}

/// A user-mode gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserBackendConfig {
    /// Ports of the host that lead into the guest: `HOST_IP:HOST_PORT:GUEST_PORT`, or
    /// `HOST_PORT:GUEST_PORT` for 127.0.0.1. Host port 0 takes any free port. For UDP, `/udp` follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub publish: Vec<Publish>,
    /// Most connections at once, 1 to 16384.
    #[serde(default = "max_connections_default")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16384)))]
    pub max_connections: u64,
    /// What the guest may connect to; nothing by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub egress: Vec<EgressConfig>,
    /// The name server that resolves names for the guest; the host's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
}

/// Something that a guest may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EgressConfig {
    /// An address range (`"192.0.2.0/24"`), a name (`"api.example.com"`), all names below a name
    /// (`"*.example.com"`), or `"host"`: the host's loopback, at the gateway's address.
    pub to: Destination,
    /// Ports: `443`, `"8000-8999"`, or a list of those; all of them by default.
    #[serde(default)]
    pub ports: Ports,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
}

fn mtu_default() -> u64 {
    1500
}

fn max_connections_default() -> u64 {
    512
}
