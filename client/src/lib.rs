//! What a supervisor's interface takes and gives: its data, for the supervisor and for those who ask it.

mod event;
mod guest;
mod host;
mod pattern;
mod request;

pub use event::{Event, What};
pub use guest::{Desired, GuestState, GuestView, Inspection};
pub use host::{Counts, Gate, HostView, Memory, PoolView, SwapView};
pub use pattern::fits;
pub use request::{Act, Action, Create, Outcome, Problem};
