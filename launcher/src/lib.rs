//! Turns a configuration into a machine whose every resource is open, and becomes its monitor.

pub mod spec;
