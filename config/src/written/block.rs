//! Block devices as they are written in JSON.

use super::limit::LimitConfig;
use serde::{Deserialize, Serialize};

/// A block device, as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Name of the device; `block0`, `block1`, … by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 24)))]
    pub name: Option<String>,
    /// Whether the guest can only read; several guests may then use the same file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Limits of what the device carries; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<LimitConfig>,
    /// Where the bytes are.
    pub backend: BlockBackendConfig,
}

/// Where the bytes of a block device are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BlockBackendConfig {
    /// A file, or a block device of the host.
    File(FileBackendConfig),
    /// The socket of a vhost-user back end.
    VhostUser(String),
}

/// A file that is a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileBackendConfig {
    /// The file, relative to the configuration's; its size is a multiple of 512 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub path: String,
    /// Whether the host's page cache is passed by (O_DIRECT).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// How the file is read and written.
    #[serde(default)]
    pub io: FileIo,
}

/// How a file is read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileIo {
    /// By io_uring where the host has it, else one request after the other.
    #[default]
    Auto,
    /// By io_uring, or not at all.
    IoUring,
    /// One request after the other (preadv, pwritev).
    Sync,
}
