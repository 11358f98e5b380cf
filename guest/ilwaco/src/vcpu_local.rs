//! Global state of a guest, which has one vCPU and therefore needs no locks.

/// Declares a static that belongs to the guest's one vCPU; access it with `NAME.with(|value| …)`, during which
/// no thread is preempted.
///
/// On the host, where tests run on several threads, each thread has its own.
macro_rules! vcpu_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(guest_image)]
        $(#[$attribute])*
        static $name: $crate::vcpu_local::VcpuLocal<$type> =
            $crate::vcpu_local::VcpuLocal::new($value);
        #[cfg(not(guest_image))]
        std::thread_local! {
            $(#[$attribute])*
            static $name: $type = const { $value };
        }
    };
}

/// A value that only the one vCPU of a guest touches.
#[cfg(guest_image)]
pub(crate) struct VcpuLocal<T>(T);

// SAFETY: a guest has exactly one vCPU, and its threads are not preempted while they have access, so there is
// never a second access at the same time. The only other code that interrupts are fault and upcall
// handlers, whose installers are `unsafe` functions that forbid handlers to call into this crate but for
// what is named there.
#[cfg(guest_image)]
unsafe impl<T> Sync for VcpuLocal<T> {}

#[cfg(guest_image)]
impl<T> VcpuLocal<T> {
    /// Wraps a value for a static.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives access to the value.
    #[inline]
    pub(crate) fn with<R>(&'static self, use_it: impl FnOnce(&T) -> R) -> R {
        let _held = crate::preemption::hold();
        use_it(&self.0)
    }
}
