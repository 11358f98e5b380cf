//! What keeps threads from being preempted where others must not see what they do half done.
//!
//! Only threads are ever preempted, never tasks. An upcall that comes while a thread holds preemption off is
//! remembered, and made up for when the last hold is dropped. In programs without threads a hold is
//! a counter that goes up and down.

use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, compiler_fence};

struct State {
    /// Holds of what runs.
    holds: AtomicU32,
    /// The thread that runs is to give way when it holds no more.
    owed: AtomicBool,
    /// What runs is a thread.
    in_thread: AtomicBool,
    /// Gives way: has the thread that runs left, and returns when it runs again. Set while `in_thread`.
    give_way: Cell<Option<fn()>>,
}

impl State {
    const fn new() -> Self {
        Self {
            holds: AtomicU32::new(0),
            owed: AtomicBool::new(false),
            in_thread: AtomicBool::new(false),
            give_way: Cell::new(None),
        }
    }
}

/// Not a `vcpu_local`, whose access holds preemption off by means of this.
#[cfg(guest_image)]
struct Global(State);

// SAFETY: a guest has one vCPU. All but `give_way` is atomic, because upcalls read and write it, and `give_way`
// is changed by tasks alone, while no thread runs.
#[cfg(guest_image)]
unsafe impl Sync for Global {}

#[cfg(guest_image)]
static STATE: Global = Global(State::new());

#[cfg(not(guest_image))]
std::thread_local! {
    static STATE: State = const { State::new() };
}

fn with<R>(use_it: impl FnOnce(&State) -> R) -> R {
    #[cfg(guest_image)]
    return use_it(&STATE.0);
    #[cfg(not(guest_image))]
    STATE.with(use_it)
}

/// While it exists, the thread that made it is not preempted. It must not outlive a wait of the thread.
pub(crate) struct Hold(PhantomData<*const ()>);

/// Keeps the thread that runs from being preempted, until the hold is dropped.
#[must_use]
#[inline]
pub(crate) fn hold() -> Hold {
    // Not one atomic operation, which would be slow: an upcall in between that changes the counter
    // changes it back before this goes on.
    with(|state| state.holds.store(state.holds.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
    compiler_fence(Ordering::SeqCst);
    Hold(PhantomData)
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        with(|state| {
            let left = state.holds.load(Ordering::Relaxed) - 1;
            state.holds.store(left, Ordering::Relaxed);
            // An upcall before this sees a hold and leaves a debt, which is seen here; one after it sees none.
            compiler_fence(Ordering::SeqCst);
            if left == 0 && state.owed.load(Ordering::Relaxed) {
                pay();
            }
        });
    }
}

/// Gives way, if what runs is a thread.
#[cold]
fn pay() {
    if let Some(give_way) = with(|state| {
        state.owed.store(false, Ordering::Relaxed);
        state.give_way.get()
    }) {
        give_way();
    }
}

/// Whether a thread holds preemption off, and therefore must not wait.
pub(crate) fn is_held() -> bool {
    with(|state| state.holds.load(Ordering::Relaxed) > 0)
}

/// Whether what runs is a thread, not a task or the program's start.
pub(crate) fn in_thread() -> bool {
    with(|state| state.in_thread.load(Ordering::Relaxed))
}

/// Has the thread that runs give way as soon as it holds nothing, if what runs is a thread that holds preemption
/// off.
pub(crate) fn request() {
    with(|state| {
        if state.in_thread.load(Ordering::Relaxed) && state.holds.load(Ordering::Relaxed) > 0 {
            state.owed.store(true, Ordering::Relaxed);
        }
    });
}

/// What an upcall does that interrupted a thread: has it give way, now or as soon as it can.
pub(crate) fn upcall() {
    if is_held() {
        request();
    } else {
        pay();
    }
}

/// What a task holds while threads run in its place.
pub(crate) struct TaskHolds(u32);

/// A thread runs from here on; `give_way` is how it is preempted.
pub(crate) fn enter_thread(give_way: fn()) -> TaskHolds {
    with(|state| {
        state.give_way.set(Some(give_way));
        state.owed.store(false, Ordering::Relaxed);
        let holds = state.holds.swap(0, Ordering::Relaxed);
        state.in_thread.store(true, Ordering::Relaxed);
        TaskHolds(holds)
    })
}

/// The thread has left.
#[allow(clippy::needless_pass_by_value, reason = "holds are restored once")]
pub(crate) fn leave_thread(holds: TaskHolds) {
    with(|state| {
        state.in_thread.store(false, Ordering::Relaxed);
        state.holds.store(holds.0, Ordering::Relaxed);
        state.owed.store(false, Ordering::Relaxed);
        state.give_way.set(None);
    });
}

/// Refuses what only tasks may use.
///
/// # Panics
/// In a thread.
#[track_caller]
pub(crate) fn assert_task(what: &str) {
    assert!(!in_thread(), "{what} belong to tasks, and cannot be used in a thread");
}

#[cfg(test)]
mod tests {
    use super::*;

    std::thread_local! {
        static GAVE_WAY: Cell<u32> = const { Cell::new(0) };
    }

    fn give_way() {
        GAVE_WAY.set(GAVE_WAY.get() + 1);
    }

    #[test]
    fn an_upcall_is_made_up_for_when_the_last_hold_is_dropped() {
        let task = enter_thread(give_way);
        upcall();
        assert_eq!(GAVE_WAY.get(), 1);
        let (outer, inner) = (hold(), hold());
        upcall();
        upcall();
        drop(outer);
        assert_eq!(GAVE_WAY.get(), 1, "something is still held");
        drop(inner);
        assert_eq!(GAVE_WAY.get(), 2, "two upcalls, one debt");
        drop(hold());
        assert_eq!(GAVE_WAY.get(), 2);
        leave_thread(task);
    }

    #[test]
    fn tasks_are_never_preempted_and_their_holds_stay_theirs() {
        let held = hold();
        request();
        let task = enter_thread(give_way);
        assert!(in_thread() && !is_held(), "what the task holds does not keep threads");
        drop(hold());
        assert_eq!(GAVE_WAY.get(), 0, "nor is the task's request the thread's");
        leave_thread(task);
        assert!(!in_thread() && is_held());
        drop(held);
        assert!(!is_held());
        assert_eq!(GAVE_WAY.get(), 0);
    }
}
