//! Being asked to stop: Ctrl-C at `denali run`, or the supervisor shutting down.
//!
//! A program that awaits [`requested`] decides itself when it ends. One that does not is ended with
//! status 0 once its tasks have nothing more to do at once.

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
        if is_requested() {
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

/// Whether the monitor has asked this guest to stop.
#[must_use]
pub fn is_requested() -> bool {
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
    is_requested() && !AWAITED.with(Cell::get)
}
