//! Intervals: ticks at fixed times, and what becomes of those that were missed.

use super::{Sleep, sleep_until};
use crate::clock::Instant;
use crate::leap;
use core::time::Duration;

/// What comes after ticks that were due while nobody waited for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// They all come, at once, until the schedule is caught up with: as many ticks as periods. But those that were
    /// due while the guest was away (held, swapped out or parked) for a second or longer come as one.
    #[default]
    Burst,
    /// They are left out, and so is the schedule: the next tick is one period after the late one.
    Delay,
    /// They are left out: the next tick is the next one of the schedule.
    Skip,
}

/// Ticks once a period. See [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    missed: MissedTicks,
    /// The next tick.
    due: Instant,
    timer: Sleep,
}

/// Ticks at once, and then every `period`; a period of 0 counts as 1 ns. Ticks that were missed come in a
/// burst, unless [`Interval::missed_ticks`] says otherwise.
///
/// ```ignore
/// let mut ticks = interval(Duration::from_millis(50)).missed_ticks(MissedTicks::Skip);
/// loop {
///     ticks.tick().await;
/// }
/// ```
#[must_use]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks at `first`, and then every `period`.
#[must_use]
pub fn interval_at(first: Instant, period: Duration) -> Interval {
    let period = period.max(Duration::from_nanos(1));
    Interval { period, missed: MissedTicks::Burst, due: first, timer: sleep_until(first) }
}

impl Interval {
    /// Chooses what becomes of missed ticks.
    #[must_use]
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Time from tick to tick.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// When the next tick is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Waits for the next tick; the moment for which it was due, which is in the past by as much as it is late.
    /// No tick is lost if this is dropped before it completes.
    pub async fn tick(&mut self) -> Instant {
        (&mut self.timer).await;
        let (due, now) = (self.due, Instant::now());
        self.set(match self.missed {
            MissedTicks::Burst if due < leap::ended() => {
                following(due, leap::ended(), self.period, MissedTicks::Skip)
            }
            missed => following(due, now, self.period, missed),
        });
        due
    }

    /// Begins anew: the next tick is one period from now.
    pub fn reset(&mut self) {
        self.set(Instant::now() + self.period);
    }

    fn set(&mut self, due: Instant) {
        self.due = due;
        self.timer = sleep_until(due);
    }
}

/// The tick after the one that was due at `due` and seen at `now`.
fn following(due: Instant, now: Instant, period: Duration, missed: MissedTicks) -> Instant {
    match missed {
        MissedTicks::Burst => due + period,
        MissedTicks::Delay => now.max(due) + period,
        MissedTicks::Skip => {
            let behind = now.since(due).as_nanos() % period.as_nanos();
            // Less than a period, and no more than the moments are apart, which fits.
            let behind = Duration::from_nanos(behind as u64);
            let last = Instant::from_ns(now.max(due).as_ns() - behind.as_nanos() as u64);
            last + period
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn after(due: u64, now: u64, missed: MissedTicks) -> u64 {
        let moment = |ms| Instant::from_ns(ms * MS);
        following(moment(due), moment(now), Duration::from_millis(10), missed).as_ns() / MS
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn ticks_in_time_follow_the_schedule() {
        for missed in [MissedTicks::Burst, MissedTicks::Skip] {
            assert_eq!(after(100, 100, missed), 110);
            assert_eq!(after(100, 109, missed), 110);
        }
        assert_eq!(after(100, 103, MissedTicks::Delay), 113);
    }

    #[test]
    fn missed_ticks_come_at_once_or_late_or_not() {
        assert_eq!(after(100, 134, MissedTicks::Burst), 110);
        assert_eq!(after(100, 134, MissedTicks::Delay), 144);
        assert_eq!(after(100, 134, MissedTicks::Skip), 140);
        assert_eq!(after(100, 130, MissedTicks::Skip), 140, "that tick is this one, late");
    }

    /// Without a monitor the clock stands at 0.
    #[test]
    fn the_first_tick_is_due_at_once_and_the_second_later() {
        let mut ticks = interval(Duration::from_millis(10));
        assert_eq!(poll(ticks.tick()), Poll::Ready(Instant::from_ns(0)));
        assert!(poll(ticks.tick()).is_pending());
        assert_eq!(ticks.due().as_ns(), 10 * MS);
        ticks.reset();
        assert_eq!(ticks.due().as_ns(), 10 * MS);
        assert_eq!(super::super::nearest(), None, "a wait that was given up has no timer");
    }

    #[test]
    fn ticks_of_a_leap_come_as_one_and_the_next_follows_the_schedule() {
        let mut ticks = interval(Duration::from_millis(10));
        leap::end(Instant::from_ns(600_003 * MS));
        assert_eq!(poll(ticks.tick()), Poll::Ready(Instant::from_ns(0)));
        assert_eq!(ticks.due().as_ns(), 600_010 * MS);
        leap::end(Instant::from_ns(0));
        let mut ticks = interval(Duration::from_millis(10));
        assert_eq!(poll(ticks.tick()), Poll::Ready(Instant::from_ns(0)));
        assert_eq!(ticks.due().as_ns(), 10 * MS, "there was no leap");
    }

    #[test]
    fn a_period_of_nothing_still_goes_on() {
        let mut ticks = interval(Duration::ZERO);
        assert_eq!(poll(ticks.tick()), Poll::Ready(Instant::from_ns(0)));
        assert_eq!(ticks.due().as_ns(), 1);
    }

    proptest! {
        #[test]
        fn the_next_tick_is_as_promised(
            due in 0..u64::MAX,
            late in 0_u64..1 << 62,
            period in 1_u64..1 << 50,
        ) {
            let now = Instant::from_ns(due.saturating_add(late));
            let due = Instant::from_ns(due);
            let next = |missed| following(due, now, Duration::from_nanos(period), missed);
            let (burst, delay) = (next(MissedTicks::Burst), next(MissedTicks::Delay));
            let skip = next(MissedTicks::Skip);
            prop_assert_eq!(burst, due + Duration::from_nanos(period));
            prop_assert_eq!(delay, now + Duration::from_nanos(period));
            prop_assert!(burst <= skip && skip <= delay);
            if skip.as_ns() < u64::MAX {
                prop_assert!(skip > now, "no tick that was missed");
                prop_assert_eq!((skip.as_ns() - due.as_ns()) % period, 0, "of the schedule");
            }
        }
    }
}
