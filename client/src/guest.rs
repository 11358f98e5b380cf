//! Guests, as a supervisor shows them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::Ipv4Addr;

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GuestState {
    /// It has not been started, or was stopped.
    Stopped,
    /// It is to run, and waits until the gatekeeper admits it.
    Queued,
    /// A monitor makes it ready: it starts, or comes back.
    Waking,
    /// It runs, or idles in memory.
    Running,
    /// It is being written into its region.
    Parking,
    /// It has no process and no memory, and wakes when something comes for it.
    Parked,
    /// It has ended by itself, or cannot go on; its note says why.
    Failed,
}

/// What a guest is meant to do, by the last one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// To run, and to be parked while it idles or others need the memory.
    Running,
    /// To be parked until something comes for it.
    Parked,
    /// To be stopped.
    Stopped,
}

/// A guest, in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestView {
    /// Its name; one guest's alone.
    pub name: String,
    /// Its identity: 32 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What it does.
    pub state: GuestState,
    /// What it is meant to do.
    pub desired: Desired,
    /// Its address on the switch, if it has one.
    pub address: Option<Ipv4Addr>,
    /// What its configuration calls its image, or the snapshot that it is a copy of.
    pub image: String,
    /// Its monitor's process, while it has one.
    pub pid: Option<u32>,
    /// Memory that it may use, in bytes.
    pub memory_bytes: u64,
    /// What is in its region, in bytes, as of when it was last parked.
    pub stored_bytes: u64,
    /// Times that it came back from its region.
    pub wakes: u64,
    /// Times that it was started anew because its monitor had ended.
    pub restarts: u64,
    /// Since when it does what it does, in ms since 1970-01-01 UTC.
    pub since_ms: u64,
    /// When it last sent or got a packet through the switch, in ms since 1970-01-01 UTC.
    pub active_ms: Option<u64>,
    /// Packets through the switch, both ways.
    pub packets: u64,
    /// What its user should know: why it failed, or does not run.
    pub note: Option<String>,
}

/// All that is known of a guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// The guest in a line.
    pub guest: GuestView,
    /// Its configuration, as it was created.
    pub configuration: Value,
    /// SHA-256 of its image: 64 hexadecimal digits.
    pub image_hash: String,
    /// The snapshot that it is a copy of, if it is one.
    pub template: Option<String>,
    /// Number of the state in its region; 0 = it was never parked.
    pub sequence: u64,
    /// When its timer goes off while it is parked, in ms since 1970-01-01 UTC.
    pub deadline_ms: Option<u64>,
    /// Where what it writes to its console is added.
    pub log: Option<String>,
    /// Where its monitor takes commands.
    pub control: Option<String>,
    /// Socket of its first console device that has one.
    pub console: Option<String>,
    /// Proportional share of the host's memory that its monitor has, in bytes, while it runs.
    pub resident_bytes: Option<u64>,
}
