//! How a device in a sandbox comes to a new connection, and how often it asks.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// Somebody outside the sandbox who connects to the back end's socket on request.
pub trait Reconnect {
    /// Asks for a connection; one request is under way at a time. It must not wait: what goes wrong
    /// shows in [`Reconnect::try_take`].
    fn request(&mut self);

    /// The answer to the request, if it is here: a connected stream, or why there is none.
    fn try_take(&mut self) -> Option<io::Result<OwnedFd>>;

    /// A descriptor that is readable while an answer waits to be taken, and then only; `None` if
    /// answers are there at once, or never.
    fn as_raw_fd(&self) -> Option<RawFd>;
}

/// Nobody: a device whose back end has gone stays without.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReconnect;

impl Reconnect for NoReconnect {
    fn request(&mut self) {}

    fn try_take(&mut self) -> Option<io::Result<OwnedFd>> {
        Some(Err(io::ErrorKind::Unsupported.into()))
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// Shortest and longest time between two attempts, in nanoseconds.
const PAUSES: (u64, u64) = (20_000_000, 1_000_000_000);

/// A connection that lasted this long, in nanoseconds, was a good one.
const LASTING: u64 = 1_000_000_000;

/// Twice as long a pause after each attempt that came to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// The pause before the next attempt, after a connection that lasted `lasted` nanoseconds; 0 if
    /// there was none.
    pub(crate) fn pause(&mut self, lasted: u64) -> u64 {
        if lasted >= LASTING {
            self.failures = 0;
        }
        let pause = PAUSES.0.checked_shl(self.failures).unwrap_or(u64::MAX).min(PAUSES.1);
        self.failures = (self.failures + 1).min(16);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_anew_after_a_good_connection() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u64> = (0..20).map(|_| back_off.pause(0) / 1_000_000).collect();
        assert_eq!(pauses[..4], [20, 40, 80, 160]);
        assert!(pauses[10..].iter().all(|&pause| pause == 1000));
        assert_eq!(back_off.pause(LASTING) / 1_000_000, 20);
        assert_eq!(back_off.pause(LASTING - 1) / 1_000_000, 40);
    }
}
