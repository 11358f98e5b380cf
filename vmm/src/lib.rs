//! The thin monitor: one process, one guest. It composes what the other crates provide, and opens
//! nothing: every resource is a descriptor that the launcher passed. It runs in a program of its own,
//! `denali-vmm`, or in the launcher's, which becomes the monitor.

mod control;
mod devices;
mod end;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guest;
mod last_words;
mod machine;
mod output;
mod prepared;
pub mod report;
mod residence;
mod sandbox;
mod start;

pub use denali_vcpu::ClockStart;
pub use end::{run_prepared, run_to_end};
pub use prepared::Prepared;
