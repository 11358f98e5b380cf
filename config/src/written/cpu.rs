//! Interrupts, idling and the share of the processor as they are written in JSON.

use crate::values::{Span, Window};
use serde::{Deserialize, Serialize};

/// How interrupts are gathered, as the configuration file describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InterruptsConfig {
    /// How long what arrives for a guest that computes is gathered before the guest is interrupted, up
    /// to 100ms; `"adaptive"` by default; 0 = batching is off: each event interrupts the guest by itself.
    #[serde(default)]
    pub window: Window,
    /// Arrivals after which the guest is interrupted though the window, which is then not adaptive, has
    /// not passed; 0 = any number.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(max = 65535)))]
    pub count: u64,
}

/// How a guest idles, as the configuration file describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdleConfig {
    /// Whether a guest that idles sleeps; false = it keeps its processor busy, for comparisons.
    #[serde(default = "yes")]
    pub sleep: bool,
    /// The longest a guest is awaited before it sleeps, up to 10ms; 0 = it sleeps at once.
    #[serde(default)]
    pub spin: Span,
    /// After how much sleep a guest counts as deeply idle, up to 86400s; 0 = never.
    #[serde(default = "deep_after_default")]
    pub deep_after: Span,
}

impl Default for IdleConfig {
    fn default() -> Self {
        Self { sleep: yes(), spin: Span(0), deep_after: deep_after_default() }
    }
}

/// The guest's share of the processor, as the configuration file describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuConfig {
    /// Share of the processor beside others where all want more than there is, 1 to 10000.
    #[serde(default = "weight_default")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10000)))]
    pub weight: u64,
    /// How long the guest computes before its devices are looked after, 100us to 100ms.
    #[serde(default = "quantum_default")]
    pub quantum: Span,
}

impl Default for CpuConfig {
    fn default() -> Self {
        Self { weight: weight_default(), quantum: quantum_default() }
    }
}

fn yes() -> bool {
    true
}

fn deep_after_default() -> Span {
    Span(1_000_000_000)
}

fn weight_default() -> u64 {
    100
}

fn quantum_default() -> Span {
    Span(2_000_000)
}
