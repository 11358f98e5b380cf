//! Console devices as they are written in JSON.

use serde::{Deserialize, Serialize};

/// A console device, as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Name of the device; `console0`, `console1`, … by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 24)))]
    pub name: Option<String>,
    /// What the device is connected to.
    pub backend: ConsoleBackendConfig,
}

/// What a console device is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ConsoleBackendConfig {
    /// Standard input and output of `denali run`.
    Terminal,
    /// Files, named pipes or terminals.
    File(ConsoleFilesConfig),
    /// A Unix stream socket that is made at this path; one client at a time is connected.
    Socket(String),
}

/// Files behind a console device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsoleFilesConfig {
    /// File from which the guest's input comes; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// File to which the guest's output is added, made if missing; dropped by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}
