//! The configuration of a guest as it is written in JSON: which fields there are, and their types.

mod block;
mod console;
mod cpu;
mod entropy;
mod limit;
mod net;
mod paths;
mod swap;

pub use block::{BlockBackendConfig, BlockConfig, FileBackendConfig, FileIo};
pub use console::{ConsoleBackendConfig, ConsoleConfig, ConsoleFilesConfig};
pub use cpu::{CpuConfig, IdleConfig, InterruptsConfig};
pub use entropy::EntropyConfig;
pub use limit::{BandwidthConfig, LimitConfig, OperationsConfig};
pub use net::{
    EgressConfig, NetBackendConfig, NetConfig, NetLimitConfig, SwitchBackendConfig,
    UserBackendConfig,
};
pub use swap::{KeyConfig, SwapConfig};

use crate::values::MemorySize;
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
    /// Block devices; their numbers follow those of the network devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 62)))]
    pub block: Vec<BlockConfig>,
    /// Console devices; their numbers follow those of the block devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 62)))]
    pub console: Vec<ConsoleConfig>,
    /// Entropy devices; their numbers follow those of the console devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 62)))]
    pub entropy: Vec<EntropyConfig>,
    /// How interrupts are gathered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupts: InterruptsConfig,
    /// How the guest idles.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle: IdleConfig,
    /// Its share of the processor.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu: CpuConfig,
    /// Where its memory goes while it idles; by default it stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapConfig>,
    /// Most memory of the guest that is resident while it runs: whole 4 KiB pages, at least 256KiB; all of
    /// it by default. Needs `swap` and KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_limit: Option<MemorySize>,
    /// A Unix socket that is made at this path, at which the monitor takes commands; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
