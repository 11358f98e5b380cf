//! Swapping as it is written in JSON.

use crate::values::{MemorySize, Span};
use serde::{Deserialize, Serialize};

/// Where the guest's memory goes while it idles, as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwapConfig {
    /// Folders over which the guest's swap region is striped, one on each disk; relative to this file.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 16)))]
    pub stripes: Vec<String>,
    /// Bytes that stay together on one disk: a power of two, 4KiB to 16MiB.
    #[serde(default = "unit_default", skip_serializing_if = "is_unit_default")]
    pub unit: MemorySize,
    /// Most memory that may be out at a time: whole 4 KiB pages, at least 64KiB; all that the guest can
    /// write by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<MemorySize>,
    /// After how much idling the guest is swapped out, up to 86400s; 0 = only when it is told to.
    #[serde(default = "after_default")]
    pub after: Span,
    /// After how much idling a guest that has a keeper is parked, up to 86400s; 0 = only when it is told to.
    #[serde(default)]
    pub park_after: Span,
    /// A guest whose next deadline is nearer than this is not parked, up to 86400s.
    #[serde(default = "park_horizon_default")]
    pub park_horizon: Span,
    /// Whether the pages that the guest needed last time are read ahead when it wakes.
    #[serde(default = "yes")]
    pub prefetch: bool,
    /// Whether what leaves memory is encrypted; false = it is not, for comparisons.
    #[serde(default = "yes")]
    pub encrypt: bool,
    /// Whether the space of the region is reserved when it is made; false = it is taken as it is needed, and a
    /// guest for which there is none stays in memory.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub reserve: bool,
    /// The host's key, which protects the guest's; by default the guest's is random and dies with its
    /// process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyConfig>,
}

/// Where the host's key is: 32 bytes, or 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KeyConfig {
    /// A file that only this user or root can read, relative to this file.
    File(String),
    /// A credential that systemd passes, by its name.
    Credential(String),
}

fn unit_default() -> MemorySize {
    MemorySize(64 << 10)
}

fn is_unit_default(unit: &MemorySize) -> bool {
    *unit == unit_default()
}

fn after_default() -> Span {
    Span(5_000_000_000)
}

fn park_horizon_default() -> Span {
    Span(10_000_000_000)
}

fn is_true(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}
