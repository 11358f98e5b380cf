//! A value that tasks and threads share.

use core::fmt;

/// A value that any task or thread may use, one at a time: whoever uses it is not preempted meanwhile, so nobody
/// ever waits for it, and it cannot deadlock. Use it shortly, and put it into an `Arc` or a `static`.
pub struct Shared<T>(Place<T>);

#[cfg(guest_image)]
type Place<T> = core::cell::RefCell<T>;
#[cfg(not(guest_image))]
type Place<T> = std::sync::Mutex<T>;

// SAFETY: a guest has one vCPU, and whoever uses the value is not preempted, so nothing else runs that could use
// it at the same time; a use inside a use is a panic. The value moves between threads, hence `Send`.
#[cfg(guest_image)]
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(..)")
    }
}

impl<T> Shared<T> {
    /// Makes a value to be shared.
    pub const fn new(value: T) -> Self {
        Self(Place::new(value))
    }

    /// Uses the value. No thread or task runs meanwhile.
    ///
    /// # Panics
    /// If `use_it` uses the same value again, or waits.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let _held = crate::preemption::hold();
        #[cfg(guest_image)]
        return use_it(&mut self.0.borrow_mut());
        #[cfg(not(guest_image))]
        use_it(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
