//! Timers: sleeping, deadlines and intervals. The nearest one is how long an idle guest sleeps at most.

mod interval;

pub use interval::{Interval, MissedTicks, interval, interval_at};

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

/// Runs `future` until `duration` from this call on has passed. A future that completes wins over the deadline,
/// however late it is. The timer is only set if it does not complete at once.
///
/// # Errors
/// [`Elapsed`] when the time ran out; the future is dropped when this one is.
pub fn timeout<T>(
    duration: Duration,
    future: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Elapsed>> {
    timeout_at(Instant::now() + duration, future)
}

/// Runs `future` until `deadline`. See [`timeout`].
///
/// # Errors
/// [`Elapsed`] when the time ran out.
pub async fn timeout_at<T>(
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let mut timer = sleep_until(deadline);
    core::future::poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut timer).poll(context).map(|()| Err(Elapsed))
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

    /// Polls a future that is expected to need nothing but time.
    fn poll_timeout<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_timeout_counts_from_its_call_and_lets_the_future_win() {
        let late = timeout_at(Instant::from_ns(0), core::future::ready(7));
        assert_eq!(poll_timeout(late), Poll::Ready(Ok(7)), "it was late, but it completed");
        assert_eq!(nearest(), None, "no timer was set");
        let never = core::future::pending::<()>();
        assert_eq!(poll_timeout(timeout(Duration::ZERO, never)), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn a_timeout_that_is_dropped_takes_its_timer_and_its_future_along() {
        struct Flag(std::rc::Rc<core::cell::Cell<bool>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = std::rc::Rc::new(core::cell::Cell::new(false));
        let flag = Flag(dropped.clone());
        let mut limited = Box::pin(timeout(Duration::from_secs(1), async move {
            let _flag = flag;
            core::future::pending::<()>().await;
        }));
        let mut context = Context::from_waker(Waker::noop());
        assert!(limited.as_mut().poll(&mut context).is_pending());
        assert_eq!(nearest(), Some(Instant::from_ns(1_000_000_000)));
        drop(limited);
        assert_eq!((nearest(), dropped.get()), (None, true));
    }

    #[test]
    fn timeouts_after_the_end_of_time_never_come() {
        let mut limited = Box::pin(timeout(Duration::MAX, core::future::pending::<()>()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(limited.as_mut().poll(&mut context).is_pending());
        assert_eq!(nearest(), Some(Instant::from_ns(u64::MAX)));
        fire(Instant::from_ns(u64::MAX - 1));
        assert!(nearest().is_some());
    }
}
