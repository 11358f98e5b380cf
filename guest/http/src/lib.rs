//! The server's side of HTTP/1.1 without any input or output: bytes in, bytes out.
//!
//! A transport (TCP in a guest, or sockets of the host) gives what arrives to a [`Connection`] and
//! sends what that gives back; a [`Service`] answers the requests. The same code thus serves guests
//! and the native server they are compared with.
#![no_std]

extern crate alloc;

mod chunked;
mod conditions;
mod connection;
mod date;
mod media;
mod path;
mod ranges;
mod request;
mod response;
mod routes;

pub use conditions::{Answer, Conditions, Representation};
pub use connection::{Connection, Limits, Service};
pub use date::HttpDate;
pub use media::media_type;
pub use path::{decode_path, encode_path};
pub use request::{Method, Request};
pub use response::{Responder, Sent, Source, reason};
pub use routes::{Route, route};
