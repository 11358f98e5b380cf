//! The configuration of a guest as it is written in JSON: which fields there are, and their types.

use crate::values::{Address, MacAddress, MemorySize, Publish, Subnet};
use serde::{Deserialize, Serialize};

/// A guest, as its configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(title = "Denali guest"))]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// Name of the guest in messages; by default the name of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub name: Option<String>,
    /// The guest's program: a path (anything with a `/`, or ending in `.elf`; relative to this file),
    /// or the name of a built-in image (`denali images` lists them).
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub image: String,
    /// Memory of the guest: whole 4 KiB pages, up to 4 GiB.
    #[serde(default)]
    pub memory: MemorySize,
    /// Argument string of the guest, at most 4096 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4096)))]
    pub args: String,
    /// What runs the guest.
    #[serde(default)]
    pub hypervisor: HypervisorChoice,
    /// Network devices; device numbers follow their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 62)))]
    pub net: Vec<NetConfig>,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HypervisorChoice {
    /// KVM where it works, else a process.
    #[default]
    Auto,
    /// KVM, or nothing.
    Kvm,
    /// A traced process: runs anywhere, but is no virtual machine boundary.
    Process,
}

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
    /// What the device is connected to.
    pub backend: BackendConfig,
}

/// What a network device is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum BackendConfig {
    /// A user-mode gateway, which needs no privilege: ports of the host lead into the guest.
    User(UserBackendConfig),
}

/// A user-mode gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UserBackendConfig {
    /// Ports of the host that lead into the guest: `HOST_IP:HOST_PORT:GUEST_PORT`, or
    /// `HOST_PORT:GUEST_PORT` for 127.0.0.1. Host port 0 takes any free port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub publish: Vec<Publish>,
    /// Most connections at once, 1 to 16384.
    #[serde(default = "max_connections_default")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16384)))]
    pub max_connections: u64,
}

fn mtu_default() -> u64 {
    1500
}

fn max_connections_default() -> u64 {
    512
}
