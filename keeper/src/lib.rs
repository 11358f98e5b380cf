//! Looks after guests that may be parked: starts them, holds what wakes them, and wakes them.
//!
//! | file | its job |
//! |---|---|
//! | `keeper` | the loop that waits for events |
//! | `add` | guests come: from configurations, and from the keeper's state |
//! | `sources` | what wakes parked guests |
//! | `wake` | a guest gets a monitor |
//! | `fate` | what monitors say, and what becomes of their guests |
//! | `stop` | the keeper is asked to stop |
//! | `desk` | commands for guests that are parked |
//! | `guest` | what is known of a guest |
//! | `teller` | what happens is told |
//! | `wheel`, `watcher`, `signals`, `clock` | what is waited for |
//! | `registry` | what is remembered on disk |
//! | `order` | what other threads ask it for |
//! | `fleet` | all guests of a host, for a supervisor |
//! | `images` | the images of guests |

mod add;
mod clock;
mod desk;
mod event;
mod fate;
mod fleet;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guest;
mod images;
mod keeper;
mod order;
mod registry;
mod settings;
mod signals;
mod sources;
mod stop;
mod teller;
mod wake;
mod watcher;
mod wheel;

pub use event::{Event, Reason};
pub use fleet::Supervision;
pub use keeper::Keeper;
pub use order::{Desk, Order, Orders, Reply, Stream, desk};
pub use settings::Settings;
