//! The thin monitor: one process, one guest. It composes what the other crates provide, and opens
//! nothing: every resource is a descriptor that the launcher passed.

pub mod end;
mod events;
mod guest;
mod machine;
mod network;
mod output;
pub mod report;
mod sandbox;
mod start;

pub use end::Failed;
pub use output::Output;
pub use start::{StartError, run};
