//! Coming back: how a program learns that it was swapped out or parked, or is a copy of another guest.

use crate::registers::virtual_registers;
use crate::waiters::Waiters;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;

vcpu_local! {
    static KNOWN: Cell<u64> = Cell::new(0);
}

vcpu_local! {
    static WAITING: RefCell<Waiters> = RefCell::new(Waiters::new());
}

/// A number that is another one whenever this guest is a copy, or has come back from swap or a snapshot. Reading it
/// costs nothing.
#[must_use]
pub fn generation() -> u64 {
    virtual_registers().generation.load(Ordering::Acquire)
}

/// Completes as soon as the [`generation`] is another one than `known`, and tells which it is. The network then has
/// its new addresses, if this guest is a copy.
///
/// ```ignore
/// let mut known = ilwaco::generation();
/// loop {
///     known = ilwaco::generation_changed(known).await;
///     forget_what_must_not_be_shared();
/// }
/// ```
pub async fn generation_changed(known: u64) -> u64 {
    poll_fn(|context| {
        let now = generation();
        // Only once the turn has seen it too, and the network is what it is to be.
        if now != known && !has_changed() {
            return Poll::Ready(now);
        }
        WAITING.with(|waiting| waiting.borrow_mut().add(context));
        Poll::Pending
    })
    .await
}

/// Whether the generation is another one than when [`notice`] was called last.
pub(crate) fn has_changed() -> bool {
    KNOWN.with(Cell::get) != generation()
}

/// Wakes who waits for a change, if there was one.
pub(crate) fn notice() {
    notice_that(generation());
}

fn notice_that(now: u64) {
    if KNOWN.with(|known| known.replace(now)) != now {
        WAITING.with(|waiting| waiting.borrow_mut().wake_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Without a monitor the generation is 0.
    #[test]
    fn a_change_wakes_each_task_that_waits_for_it_once() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(generation_changed(0));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let woken = || count.0.load(Ordering::Relaxed);
        notice_that(0);
        assert_eq!(woken(), 0, "nothing has changed");
        notice_that(7);
        assert_eq!(woken(), 1);
        assert!(has_changed());
        notice_that(8);
        assert_eq!(woken(), 1, "nobody waits any more");
    }

    #[test]
    fn a_change_that_was_missed_is_told_at_once() {
        let mut context = Context::from_waker(Waker::noop());
        let seen = pin!(generation_changed(3)).poll(&mut context);
        assert_eq!(seen, Poll::Ready(0));
    }
}
