//! What is to be done at a later time. A timer that is not needed any more goes off all the same, and does nothing.

use crate::protocol::PortNumber;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// To read the socket of the guest in this place again, which was too fast.
    Read(u32),
    /// To give the guest of a port what waits, which was too fast for it.
    Flush(PortNumber),
    /// To look for what has waited for a port for too long.
    Age(PortNumber),
    /// To poll the gateway of a port.
    Gateway(PortNumber),
    /// To accept connections at a published socket again.
    Accept(u32),
    /// To accept supervisors again.
    Control,
}

/// The timers, by time in ns.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(u64, Timer)>>);

impl Timers {
    /// Adds a timer.
    pub fn set(&mut self, at_ns: u64, timer: Timer) {
        self.0.push(Reverse((at_ns, timer)));
    }

    /// When the next one goes off.
    pub fn next(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next one that has gone off.
    pub fn take_due(&mut self, now_ns: u64) -> Option<Timer> {
        let due = self.next().is_some_and(|at| at <= now_ns);
        due.then(|| self.0.pop()).flatten().map(|Reverse((_, timer))| timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_go_off_in_their_order_and_not_before() {
        let mut timers = Timers::default();
        timers.set(20, Timer::Flush(1));
        timers.set(10, Timer::Age(2));
        assert_eq!((timers.next(), timers.take_due(9)), (Some(10), None));
        assert_eq!(timers.take_due(20), Some(Timer::Age(2)));
        assert_eq!(timers.take_due(20), Some(Timer::Flush(1)));
        assert_eq!(timers.take_due(u64::MAX), None);
    }
}
