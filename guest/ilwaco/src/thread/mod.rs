//! Threads: computations beside the tasks, which are interrupted for them.
//!
//! Tasks have precedence: threads run when no task is ready, and leave for whatever arrives, when a timer is due,
//! and when they wake a task. Among each other they take turns of 4 ms. They are preempted by upcalls,
//! at most 2 ms late where the monitor has to wait for the end of a quantum, wherever they are in the
//! program; what this crate and the allocator do is not interrupted half-way.
//!
//! A guest has one processor, so threads make nothing faster: they keep long computations from holding
//! up what has to answer at once.
//!
//! ```ignore
//! let found = ilwaco::thread::spawn(|| search(&table)).await;
//! ```
//!
//! Threads compute, and tasks do input and output: sockets and timers can be waited for in a thread by
//! [`block_on`], but `ilwaco::spawn`, block devices and console devices belong to tasks.
//! A thread may use as much stack as half of the program's (128 KiB, unless `program!` says otherwise);
//! one that uses more ends the guest with a crash report, as the program itself would, and one that
//! panics ends it with status 101. When the program ends, its threads end too.

mod scheduler;
mod shared;
mod stack;
mod switch;
#[cfg(test)]
mod tests;
mod turn;

pub use shared::Shared;

use crate::preemption::{self, Hold};
use crate::task;
use crate::time::sleep as timer;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use core::time::Duration;
use scheduler::{Id, On};
use stack::Saved;

/// What a thread and the owner of its handle share.
struct Outcome<T> {
    result: Option<T>,
    waiting: Option<Waker>,
}

/// A thread whose result can be waited for: in a task by `.await`, elsewhere by [`JoinHandle::join`]. If it is
/// dropped, the thread goes on by itself.
#[derive(Debug)]
pub struct JoinHandle<T> {
    outcome: Arc<Shared<Outcome<T>>>,
    thread: Thread,
}

/// A thread, to be unparked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(Id);

/// Starts a thread, which calls `function`; it runs when no task is ready.
///
/// # Panics
/// In a program that handles upcalls itself ([`upcalls::enable`](crate::upcalls::enable)).
pub fn spawn<T: Send + 'static>(function: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    turn::prepare();
    let outcome = Arc::new(Shared::new(Outcome { result: None, waiting: None }));
    let place = Arc::clone(&outcome);
    let body: Body = Box::new(move || {
        let result = function();
        let held = preemption::hold();
        let waiting = place.with(|outcome| {
            outcome.result = Some(result);
            outcome.waiting.take()
        });
        (held, waiting)
    });
    let argument = Box::into_raw(Box::new(body)).expose_provenance();
    let saved = Saved::new(begin, argument);
    let id = turn::with_scheduler(|scheduler| scheduler.add(saved));
    JoinHandle { outcome, thread: Thread(id) }
}

/// What a thread does. From the moment its result is there until the thread counts as ended it is not preempted.
type Body = Box<dyn FnOnce() -> (Hold, Option<Waker>) + Send>;

/// What a thread does first and last; `argument` is the address of a boxed [`Body`].
extern "C" fn begin(argument: usize) -> ! {
    if !turn::arrive() {
        turn::leave();
    }
    let body = core::ptr::with_exposed_provenance_mut::<Body>(argument);
    // SAFETY: `spawn` made the box for this thread alone, which begins once.
    let body = unsafe { Box::from_raw(body) };
    let (held, waiting) = body();
    turn::with_scheduler(scheduler::Scheduler::finish);
    if let Some(waker) = waiting {
        waker.wake();
    }
    drop(held);
    loop {
        turn::leave();
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the end of the thread, and gives its result. Outside of a thread this runs the tasks there are
    /// meanwhile; in a task, `.await` is the better way.
    pub fn join(self) -> T
    where
        T: 'static,
    {
        if preemption::in_thread() { block_on(self) } else { task::block_on(self) }
    }

    /// Whether the thread has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !turn::with_scheduler(|scheduler| scheduler.is_alive(self.thread.0))
    }

    /// The thread, to be unparked.
    #[must_use]
    pub fn thread(&self) -> Thread {
        self.thread
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// # Panics
    /// If it is polled after it has completed.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.outcome.with(|outcome| match outcome.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                outcome.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        })
    }
}

impl Thread {
    /// Has the thread's [`park`] return: the one it is in, or else the next.
    pub fn unpark(self) {
        turn::with_scheduler(|scheduler| scheduler.unpark(self.0));
    }
}

/// The thread that calls this; `None` in a task.
#[must_use]
pub fn current() -> Option<Thread> {
    turn::current().map(Thread)
}

/// How many threads there are that have not come to their end.
#[must_use]
pub fn count() -> usize {
    turn::with_scheduler(|scheduler| scheduler.count())
}

/// Waits until somebody unparks this thread, unless that has happened since it parked last.
///
/// # Panics
/// In a task, which would wait for ever.
pub fn park() {
    assert_thread();
    turn::wait(On::Park);
}

/// Lets tasks and other threads run. In a task, does nothing.
pub fn yield_now() {
    if preemption::in_thread() {
        turn::with_scheduler(|scheduler| scheduler.give_up_time());
        turn::leave();
    }
}

/// Waits for `duration`.
///
/// # Panics
/// In a task, which awaits [`time::sleep`](crate::time::sleep) instead.
pub fn sleep(duration: Duration) {
    block_on(timer(duration));
}

/// Waits for a future in this thread, while others run.
///
/// # Panics
/// In a task, which awaits the future instead.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    assert_thread();
    let mut future = pin!(future);
    let waker = current().map_or(Waker::noop().clone(), |thread| waker(thread.0));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        turn::wait(On::Wake);
    }
}

/// Calls `function` without being preempted: what it does, no other thread and no task sees half done. It should be
/// short: nothing else runs meanwhile, whatever arrives. A thread that waits in it panics.
pub fn without_preemption<T>(function: impl FnOnce() -> T) -> T {
    let _held = preemption::hold();
    function()
}

#[track_caller]
fn assert_thread() {
    assert!(preemption::in_thread(), "only threads wait; tasks await");
}

fn waker(id: Id) -> Waker {
    // SAFETY: the functions of the table treat the pointer as a number and refer to no memory through
    // it, so every obligation of `RawWaker` holds for any value, any copy, in tasks and threads.
    unsafe { Waker::from_raw(raw_waker(core::ptr::without_provenance(id.to_bits() as usize))) }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(raw_waker, wake, wake, |_| {});

fn raw_waker(pointer: *const ()) -> RawWaker {
    RawWaker::new(pointer, &WAKER)
}

fn wake(pointer: *const ()) {
    let id = Id::from_bits(pointer.addr() as u64);
    turn::with_scheduler(|scheduler| scheduler.wake(id));
}
