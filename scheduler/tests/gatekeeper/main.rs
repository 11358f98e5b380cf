//! The gatekeeper's rules, one by one and in any course of events.

mod memory;
mod properties;
mod rules;
mod tenants;
mod world;
