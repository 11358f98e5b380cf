//! Ilwaco: the library OS of Denali guests.
//!
//! A guest is one program in one address space, at user privilege, without a kernel beneath it. This
//! crate is what it stands on: entry and exit, memory, console, clock, entropy, faults and upcalls,
//! an async executor whose idle loop is the monitor's idle-with-timeout, threads, and TCP/IP over a virtio
//! network card. `docs/guests.md` shows how to write a guest.
//!
//! ```ignore
//! #![cfg_attr(guest_image, no_std, no_main)]
//! ilwaco::program!(start);
//!
//! fn start() {
//!     ilwaco::println!("hello from inside");
//! }
//! ```
//!
//! In an image (`--cfg guest_image`) the crate is `no_std`. It also compiles as an ordinary library
//! of the host, so that guests are checked and their logic tested like any other crate; what needs
//! a monitor beneath it then panics.
#![cfg_attr(guest_image, no_std)]

extern crate alloc;

#[macro_use]
mod vcpu_local;

pub mod block;
pub mod clock;
pub mod console;
pub mod entropy;
pub mod exit;
pub mod faults;
pub mod memory;
pub mod net;
pub mod program;
pub mod registers;
pub mod stop;
pub mod store;
pub mod task;
pub mod thread;
pub mod time;
pub mod upcalls;
mod virtio;

mod chacha;
mod frames;
mod generation;
mod idle;
mod leap;
mod ports;
mod preemption;
mod waiters;

#[cfg(guest_image)]
mod freestanding;
#[cfg(any(guest_image, test))]
mod memory_functions;

pub use denali_abi as abi;
pub use exit::{Status, terminate};
pub use generation::{generation, generation_changed};
pub use task::{block_on, spawn, yield_now};
