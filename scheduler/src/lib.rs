//! Policy, and nothing but policy: when a guest that asked to idle sleeps, how long a quantum lasts, who goes
//! first; and who of very many guests is in memory.
//!
//! No clock is read and nothing is waited for here: time comes in as nanoseconds, decisions go out.

mod fair;
pub mod gatekeeper;
mod idle;
mod turn;

pub use fair::{FairQueue, WEIGHT};
pub use idle::{Idle, IdlePolicy, IdleState, ParkPolicy, Situation, earlier};
pub use turn::{Ended, Precedence, Turn};

/// How long a guest may compute before the monitor looks after its devices, in ns, unless configured
/// otherwise.
pub const QUANTUM_NS: u64 = 2_000_000;
