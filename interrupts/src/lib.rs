//! The interrupt batcher: devices raise lines, the guest gets all of them at once when it next runs
//! (OSDI 2002 paper, section 3.3).
//!
//! Any thread may raise a line, without a lock; only the owner of the guest's vCPU collects. A line
//! raised twice before it is collected is one interrupt: its meaning is "something happened recently".
//! When a guest that computes is interrupted, a [`Moderator`] says; what arrives for one that is held waits
//! in a bounded [`held::Queue`].

pub mod held;
mod histogram;
mod moderator;
mod pending;
mod poster;
mod sync;

pub use histogram::Histogram;
pub use moderator::{Coalescing, LONGEST_NS, Moderator, SHORTEST_NS};
pub use poster::{BatchSizes, Counters, Poster, TimesHeld};

use denali_abi::registers::{PENDING_STOP, PENDING_TIMER};
use pending::Pending;
use std::sync::Arc;

/// Gathers the interrupts of one guest until they are posted.
#[derive(Debug, Default)]
pub struct Batcher {
    pending: Pending,
}

/// Where one device raises its interrupt.
#[derive(Clone, Debug)]
pub struct Line {
    batcher: Arc<Batcher>,
    bit: u64,
}

impl Batcher {
    /// A batcher with nothing raised.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The line of device `number`, or `None` for a number that no device can have.
    #[must_use]
    pub fn device_line(self: &Arc<Self>, number: usize) -> Option<Line> {
        (number < denali_abi::doorbell::DEVICES_MAX).then(|| self.line(number as u32))
    }

    /// The line that asks the guest to stop.
    #[must_use]
    pub fn stop_line(self: &Arc<Self>) -> Line {
        self.line(PENDING_STOP)
    }

    /// The line of the guest's deadlines.
    #[must_use]
    pub fn timer_line(self: &Arc<Self>) -> Line {
        self.line(PENDING_TIMER)
    }

    fn line(self: &Arc<Self>, bit: u32) -> Line {
        Line { batcher: self.clone(), bit: 1 << bit }
    }

    /// Whether a line is raised and not yet posted.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.pending.is_raised()
    }
}

impl Line {
    /// Raises the line. What the device wrote to guest memory before is seen by whoever sees the
    /// interrupt.
    pub fn raise(&self) {
        self.batcher.pending.raise(self.bit, ticks);
    }
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: the instruction reads a register of the processor and touches no memory; every x86-64
    // processor has it, and a process may use it unless it has asked the kernel to be refused.
    unsafe { std::arch::x86_64::_rdtsc() }
}
