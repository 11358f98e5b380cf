//! Entropy devices as they are written in JSON.

use super::limit::LimitConfig;
use serde::{Deserialize, Serialize};

/// A source of random bytes, as the configuration file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EntropyConfig {
    /// Name of the device; `entropy0`, `entropy1`, … by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 24)))]
    pub name: Option<String>,
    /// Limits of what the device gives; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<LimitConfig>,
}
