//! The JSON configuration of a guest: its data, its validation, and its JSON Schema.
//!
//! A [`Document`] is a configuration as JSON, from a file, from standard input or made up on the
//! command line, with `--set` changes applied. [`Document::guest`] checks all of it and gives a
//! [`Guest`], in which every default is filled in. What is wrong is said in one line that names the
//! source and the field. `docs/config.md` describes every field.

mod decode;
mod document;
mod error;
mod host;
mod json;
mod resolve;
mod set;
mod values;
mod written;

pub use document::Document;
pub use error::ConfigError;
pub use host::{AmongGuests, HostConfig, NetworkConfig, Reserve, TenantConfig, check_name};
pub use resolve::{
    Block, BlockBackend, Bucket, Console, ConsoleBackend, Cpu, EgressRule, Entropy, Guest, HostKey,
    Image, Limit, Net, NetBackend, Park, Swap, SwitchBackend, UserBackend,
};
pub use values::{
    Address, Destination, MacAddress, MemorySize, Ports, Protocol, Publish, Resolver, Span, Subnet,
    Window,
};
pub use written::{
    BandwidthConfig, BlockBackendConfig, BlockConfig, ConsoleBackendConfig, ConsoleConfig,
    ConsoleFilesConfig, CpuConfig, EgressConfig, EntropyConfig, FileBackendConfig, FileIo,
    GuestConfig, HypervisorChoice, IdleConfig, InterruptsConfig, KeyConfig, LimitConfig,
    NetBackendConfig, NetConfig, NetLimitConfig, OperationsConfig, SwapConfig, SwitchBackendConfig,
    UserBackendConfig,
};

/// The JSON Schema of a configuration file.
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(GuestConfig).to_value()
}
