//! The JSON configuration of a guest: its data, its validation, and its JSON Schema.
//!
//! A [`Document`] is a configuration as JSON, from a file, from standard input or made up on the
//! command line, with `--set` changes applied. [`Document::guest`] checks all of it and gives a
//! [`Guest`], in which every default is filled in. What is wrong is said in one line that names the
//! source and the field. `docs/config.md` describes every field.

mod decode;
mod document;
mod error;
mod guest;
mod json;
mod resolve;
mod set;
mod values;

pub use document::Document;
pub use error::ConfigError;
pub use guest::{BackendConfig, GuestConfig, HypervisorChoice, NetConfig, UserBackendConfig};
pub use resolve::{Guest, Image, Net};
pub use values::{Address, MacAddress, MemorySize, Publish, Subnet};

/// The JSON Schema of a configuration file.
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(GuestConfig).to_value()
}
