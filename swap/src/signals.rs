//! Signals are the business of the thread that runs the guest, and of none that it starts.

use std::mem::MaybeUninit;

/// Runs `start` with all signals blocked, so that a thread it makes takes none, and then unblocks those
/// that were not.
pub fn kept_for_this_thread<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both sets are writable; the first is filled before it is used. The calls cannot fail with
    // valid arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = start();
    // SAFETY: the set was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}
