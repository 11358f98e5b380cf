//! Being asked to stop: Ctrl-C at `denali run`, or the supervisor shutting down.
//!
//! A program that awaits [`requested`], or asks [`is_requested`], decides itself when it ends. One that does neither is
//! ended with status 0 once its tasks have nothing more to do at once.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::{Poll, Waker};

vcpu_local! {
    static REQUESTED: Cell<bool> = Cell::new(false);
}

vcpu_local! {
    static AWAITED: Cell<bool> = Cell::new(false);
}

vcpu_local! {
    static WAITING: RefCell<Vec<Waker>> = RefCell::new(Vec::new());
}

/// Completes when the monitor asks this guest to stop.
pub async fn requested() {
    AWAITED.with(|awaited| awaited.set(true));
    core::future::poll_fn(|context| {
        if REQUESTED.with(Cell::get) {
            return Poll::Ready(());
        }
        WAITING.with(|waiting| {
            let mut waiting = waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
        });
        Poll::Pending
    })
    .await;
}

/// Whether the monitor has asked this guest to stop. Who asks once goes on asking, or awaits [`requested`].
#[must_use]
pub fn is_requested() -> bool {
    AWAITED.with(|awaited| awaited.set(true));
    REQUESTED.with(Cell::get)
}

/// Notes the request and wakes who waits for it.
pub(crate) fn request() {
    REQUESTED.with(|requested| requested.set(true));
    for waker in WAITING.with(RefCell::take) {
        waker.wake();
    }
}

/// Whether the idle loop is to end the program.
pub(crate) fn ends_program() -> bool {
    REQUESTED.with(Cell::get) && !AWAITED.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_looks_for_requests_ends_itself() {
        request();
        assert!(ends_program());
        assert!(is_requested());
        assert!(!ends_program());
    }
}
