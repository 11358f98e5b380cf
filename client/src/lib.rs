//! What a supervisor's interface takes and gives: its data, for the supervisor and for those who ask it, and a
//! client that blocks.

mod client;
mod error;
mod event;
mod guest;
mod host;
mod http;
mod lines;
mod pattern;
mod place;
mod request;
mod target;

pub use client::Client;
pub use error::Error;
pub use event::{Event, What};
pub use guest::{Desired, GuestState, GuestView, Inspection};
pub use host::{Counts, Gate, HostView, Memory, PoolView, SwapView};
pub use http::Body;
pub use lines::Lines;
pub use pattern::fits;
pub use place::{SOCKET_VARIABLE, usual_socket};
pub use request::{Act, Action, Create, Outcome, Problem};
