//! What happens to guests, as a supervisor tells it.

use crate::guest::GuestState;
use serde::{Deserialize, Serialize};

/// Something that happened. Unknown fields are not told from those of what happened, and ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Counts up by one; a gap means that whoever listens was too slow.
    pub number: u64,
    /// When, in ms since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The guest that it is about; empty where it is about the host.
    pub guest: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// There is a new guest.
    Created {},
    /// There is a guest no more.
    Removed {},
    /// It does something else now.
    State {
        /// What it does.
        state: GuestState,
        /// Why, in a few words.
        why: String,
    },
    /// It runs again.
    Woken {
        /// µs since something was found to be for it.
        micros: u64,
    },
    /// The gatekeeper decided something.
    Gate {
        /// What and why, in a few words.
        decision: String,
    },
    /// Something that its user should know, in one line.
    Notice {
        /// What.
        message: String,
    },
}
