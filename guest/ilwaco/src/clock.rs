//! The clock: read from the time-stamp counter and the virtual registers, without an exit.

use crate::registers::virtual_registers;
use core::ops::Add;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// A moment of monotonic time, in ns since the host's boot; time asleep or parked counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment now.
    #[must_use]
    pub fn now() -> Self {
        Self(virtual_registers().clock.read().monotonic_ns(time_stamp()))
    }

    /// The moment at `ns` on the monotonic clock.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the host's boot.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if that is not in the past.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since this moment.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates after five centuries.
    fn add(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

/// Nanoseconds since 1970-01-01 UTC.
#[must_use]
pub fn realtime_ns() -> u64 {
    let reading = virtual_registers().clock.read();
    reading.monotonic_ns(time_stamp()).wrapping_add(reading.realtime_offset_ns)
}

/// Frequency of the time-stamp counter in kHz.
#[must_use]
pub fn cpu_khz() -> u32 {
    virtual_registers().cpu_khz.load(Ordering::Relaxed)
}

/// The processor's time-stamp counter.
#[must_use]
pub fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and the contract lets guests execute it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate() {
        let moment = Instant::from_ns(5);
        assert_eq!((moment + Duration::from_nanos(7)).as_ns(), 12);
        assert_eq!((moment + Duration::MAX).as_ns(), u64::MAX);
        assert_eq!(moment.since(Instant::from_ns(9)), Duration::ZERO);
    }
}
