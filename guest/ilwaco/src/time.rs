//! Timers: sleeping and deadlines. The nearest one is how long an idle guest sleeps at most.

use crate::clock::Instant;
use alloc::collections::BTreeMap;
use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

/// Timers that are set, the nearest first; the second number tells equal deadlines apart.
struct Timers {
    set: BTreeMap<(Instant, u64), Waker>,
    count: u64,
}

vcpu_local! {
    static TIMERS: RefCell<Timers> = RefCell::new(Timers { set: BTreeMap::new(), count: 0 });
}

/// The nearest deadline.
pub(crate) fn nearest() -> Option<Instant> {
    TIMERS.with(|timers| timers.borrow().set.first_key_value().map(|(key, _)| key.0))
}

/// Wakes everybody whose time has come.
pub(crate) fn fire(now: Instant) {
    TIMERS.with(|timers| {
        let mut timers = timers.borrow_mut();
        while let Some(first) = timers.set.first_entry()
            && first.key().0 <= now
        {
            first.remove().wake();
        }
    });
}

/// Completes at a moment. See [`sleep`] and [`sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    /// The number under which it is in the set.
    number: Option<u64>,
}

/// Completes after `duration`.
#[must_use]
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Completes at `deadline`.
#[must_use]
pub const fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, number: None }
}

impl Sleep {
    fn arm(&mut self, waker: &Waker) {
        let deadline = self.deadline;
        TIMERS.with(|timers| {
            let mut timers = timers.borrow_mut();
            let number = *self.number.get_or_insert_with(|| {
                timers.count += 1;
                timers.count
            });
            timers.set.insert((deadline, number), waker.clone());
        });
    }

    fn disarm(&mut self) {
        if let Some(number) = self.number.take() {
            TIMERS.with(|timers| timers.borrow_mut().set.remove(&(self.deadline, number)));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            self.disarm();
            return Poll::Ready(());
        }
        self.arm(context.waker());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// The time of a [`timeout`] ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl core::error::Error for Elapsed {}

/// Runs `future` for at most `duration`. The timer is only set if it does not complete at once.
///
/// # Errors
/// [`Elapsed`] when the time ran out; the future is dropped.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let mut timer = None;
    core::future::poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        let timer = timer.get_or_insert_with(|| sleep(duration));
        Pin::new(timer).poll(context).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::task::Waker;

    fn poll(sleep: &mut Sleep) -> Poll<()> {
        Pin::new(sleep).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Without a monitor the clock stands at 0, so that only `fire` moves time.
    #[test]
    fn the_nearest_timer_counts_and_a_dropped_one_is_forgotten() {
        let mut late = sleep_until(Instant::from_ns(200));
        let mut soon = sleep_until(Instant::from_ns(100));
        assert!(poll(&mut late).is_pending() && poll(&mut soon).is_pending());
        assert_eq!(nearest(), Some(Instant::from_ns(100)));
        drop(soon);
        assert_eq!(nearest(), Some(Instant::from_ns(200)));
        fire(Instant::from_ns(199));
        assert!(nearest().is_some());
        fire(Instant::from_ns(200));
        assert_eq!(nearest(), None);
    }

    #[test]
    fn a_past_deadline_is_ready_at_once() {
        assert!(poll(&mut sleep_until(Instant::from_ns(0))).is_ready());
    }

    #[test]
    fn polling_again_sets_one_timer() {
        let mut one = sleep_until(Instant::from_ns(50));
        assert!(poll(&mut one).is_pending() && poll(&mut one).is_pending());
        drop(one);
        assert_eq!(nearest(), None);
    }
}
