//! What a supervisor is asked for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// To create guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Name of the guest; of several, the beginning of their names: `-1`, `-2`, … follow.
    pub name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Their configuration, as of `denali run`, with absolute paths; `name` in it is overwritten. With a
    /// template it may be left out, or replace the template's.
    #[serde(default)]
    pub configuration: Option<Value>,
    /// Snapshot, by absolute path, that they are copies of.
    #[serde(default)]
    pub template: Option<PathBuf>,
    /// Whose they are.
    #[serde(default = "nobody")]
    pub tenant: String,
    /// Whether they are started at once.
    #[serde(default)]
    pub start: bool,
    /// Whether, if they are not started at once, they start when something first comes for them.
    #[serde(default)]
    pub on_demand: bool,
}

fn one() -> u32 {
    1
}

fn nobody() -> String {
    "default".into()
}

/// To have guests do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// What.
    pub action: Action,
    /// Their names, in which `*` stands for any characters and `?` for one.
    pub guests: Vec<String>,
}

/// What guests are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To run, from the start if they were stopped.
    Start,
    /// To end; what was in their memory is gone.
    Stop,
    /// To leave memory, until something comes for them.
    Park,
    /// To come back to memory.
    Wake,
    /// To stop, and be forgotten.
    Remove,
}

/// What became of a request for one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The guest.
    pub name: String,
    /// Why it could not be done; `None` = it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// An exit status, as `docs/exit-codes.md` lists it: 122 = the request is wrong, 123 = the image, 124 =
    /// the host lacks something.
    pub status: u8,
    /// What is wrong, and what to do, in one line.
    pub message: String,
}
