//! The interface of a supervisor: HTTP and JSON on a Unix socket, in front of a keeper's desk.
//!
//! | file | its job |
//! |---|---|
//! | `server` | the thread, the socket, and their end |
//! | `connection` | one connection, and the patience with it |
//! | `visitors` | who connects, and what they may do |
//! | `routes` | the table of what there is to ask for |
//! | `openapi` | the same table as a document |
//! | `guests`, `actions`, `log`, `events`, `host` | what is asked for |
//! | `metrics` | the host as Prometheus reads it |
//! | `engine` | asks the keeper, and does not wait for ever |
//! | `request`, `check` | what others sent, read and checked |
//! | `feed`, `failure` | what they get |
//!
//! Everything runs on one thread. Whatever comes from a connection is bounded in size, number and time.

mod actions;
mod check;
mod connection;
mod engine;
mod events;
mod failure;
mod feed;
mod guests;
mod host;
mod limits;
mod log;
mod metrics;
mod openapi;
mod request;
mod routes;
mod server;
mod settings;
mod visitors;

pub use check::{name_is_wrong, pattern_is_wrong};
pub use openapi::document;
pub use request::{read_act, read_create, read_query};
pub use server::{Handle, listen, serve};
pub use settings::{Patience, Settings};
