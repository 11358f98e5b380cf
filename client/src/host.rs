//! The host, as a supervisor shows it.

use crate::guest::GuestState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Guests by what they do.
pub type Counts = BTreeMap<GuestState, u64>;

/// The host in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HostView {
    /// Version of the supervisor.
    pub version: String,
    /// Since when it runs, in ms since 1970-01-01 UTC.
    pub since_ms: u64,
    /// Guests by what they do; states without guests are left out.
    pub guests: Counts,
    /// The host's memory.
    pub memory: Memory,
    /// The disks that guests are parked on.
    pub swap: Vec<SwapView>,
    /// Monitors that wait for guests.
    pub pool: PoolView,
    /// What the gatekeeper does.
    pub gate: Gate,
    /// Guests that came back since the supervisor started.
    pub wakes: u64,
    /// Guests that were parked since then.
    pub parks: u64,
    /// Guests that were started anew since then, because their monitors had ended.
    pub restarts: u64,
    /// The time from what woke them to their first instruction, of the last 1,024 guests that came back, in
    /// µs: median, 99 %.
    pub wake_us: [u64; 2],
    /// Whether there is a switch.
    pub switch: bool,
    /// Whether it stops: it parks all guests, and takes no new ones.
    pub drains: bool,
}

/// The host's memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs can have without anything being swapped.
    pub available: u64,
    /// What the gatekeeper leaves free.
    pub minimum_free: u64,
    /// What guests may use all in all; 0 = no limit of their own.
    pub budget: u64,
    /// What guests that have monitors are counted for.
    pub charged: u64,
}

/// A folder that guests are parked in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwapView {
    /// The folder.
    pub folder: String,
    /// Size of its file system, in bytes.
    pub total: u64,
    /// What is free of it, in bytes.
    pub free: u64,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
}

/// Monitors that wait for guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolView {
    /// How many are to wait.
    pub size: u64,
    /// How many do.
    pub ready: u64,
    /// Times that none was there.
    pub missed: u64,
}

/// What the gatekeeper does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Guests that wait to be admitted.
    pub queued: u64,
    /// Guests admitted since the supervisor started.
    pub admitted: u64,
    /// Guests that were made to leave for others since then.
    pub evicted: u64,
    /// Guests that may have monitors at a time.
    pub max_running: u64,
    /// What it decided last, in a few words.
    pub last: String,
}
