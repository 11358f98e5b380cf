//! Tasks that wait for the same thing.

use alloc::vec::Vec;
use core::task::{Context, Waker};

/// The wakers of tasks that wait, each once.
#[derive(Default)]
pub(crate) struct Waiters(Vec<Waker>);

impl Waiters {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The task of `context` waits too.
    pub(crate) fn add(&mut self, context: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(context.waker())) {
            self.0.push(context.waker().clone());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn wake_all(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
