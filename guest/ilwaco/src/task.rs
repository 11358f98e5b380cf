//! Tasks: an executor for one vCPU. A waker is a task's number, so waking costs a few stores and no
//! atomic operation.

use crate::{idle, preemption};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// A task's place in the table, and how often that place had been used before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TaskId {
    index: u32,
    generation: u32,
}

impl TaskId {
    fn to_pointer(self) -> *const () {
        let bits = (u64::from(self.generation) << 32) | u64::from(self.index);
        core::ptr::without_provenance(bits as usize)
    }

    fn from_pointer(pointer: *const ()) -> Self {
        let bits = pointer.addr() as u64;
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }

    fn waker(self) -> Waker {
        // SAFETY: the functions of the table treat the pointer as a number and refer to no memory
        // through it, so every obligation of `RawWaker` holds for any value and any copy.
        unsafe { Waker::from_raw(raw_waker(self.to_pointer())) }
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(raw_waker, wake, wake, |_| {});

fn raw_waker(pointer: *const ()) -> RawWaker {
    RawWaker::new(pointer, &WAKER)
}

fn wake(pointer: *const ()) {
    EXECUTOR.with(|executor| {
        executor.borrow_mut().wake(TaskId::from_pointer(pointer));
        // A thread that wakes a task gives way to it.
        preemption::request();
    });
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u32,
    /// Whether it is in the ready queue, so that waking twice counts once.
    queued: bool,
    occupied: bool,
    /// `None` while the task runs.
    task: Option<Task>,
}

struct Executor {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<TaskId>,
}

vcpu_local! {
    static EXECUTOR: RefCell<Executor> = RefCell::new(Executor {
        slots: Vec::new(),
        free: Vec::new(),
        ready: VecDeque::new(),
    });
}

impl Executor {
    fn add(&mut self, task: Task) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, queued: false, occupied: false, task: None });
            // Room for all to be free or ready, so that neither ending nor waking allocates.
            self.free.reserve(self.slots.len());
            self.ready.reserve(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.occupied = true;
        slot.task = Some(task);
        slot.queued = true;
        self.ready.push_back(TaskId { index, generation: slot.generation });
    }

    /// The slot of a task that still exists.
    fn slot(&mut self, id: TaskId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.occupied && slot.generation == id.generation).then_some(slot)
    }

    fn wake(&mut self, id: TaskId) {
        if let Some(slot) = self.slot(id)
            && !slot.queued
        {
            slot.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Takes the next ready task out, to be polled.
    fn take_ready(&mut self) -> Option<(TaskId, Task)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(slot) = self.slot(id) {
                slot.queued = false;
                if let Some(task) = slot.task.take() {
                    return Some((id, task));
                }
            }
        }
        None
    }

    /// Puts a task back that is not finished.
    fn put_back(&mut self, id: TaskId, task: Task) {
        if let Some(slot) = self.slot(id) {
            slot.task = Some(task);
        }
    }

    fn remove(&mut self, id: TaskId) {
        if let Some(slot) = self.slot(id) {
            slot.occupied = false;
            slot.queued = false;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.index);
        }
    }
}

/// Runs a future beside all others until it is done.
///
/// # Panics
/// In a thread: the future need not be one that may move there.
#[track_caller]
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    preemption::assert_task("tasks");
    let task: Task = Box::pin(future);
    EXECUTOR.with(|executor| executor.borrow_mut().add(task));
}

/// Lets other tasks and the network have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a future, and everything it spawns, until it is done; between tasks the guest idles until
/// the nearest timer or the next interrupt. Tasks that are still there afterwards stop.
pub fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(Cell::new(None));
    let place = Rc::clone(&result);
    spawn(async move { place.set(Some(future.await)) });
    loop {
        idle::before_tasks();
        run_ready();
        if let Some(value) = result.take() {
            idle::at_end();
            return value;
        }
        idle::after_tasks(has_ready);
    }
}

/// The time-stamp counter ([`clock::time_stamp`](crate::clock::time_stamp)), read as the first thing after the last
/// idling ended: when this guest ran again for whatever its tasks see. 0 before the first idling.
#[must_use]
pub fn turn_began() -> u64 {
    idle::turn_began()
}

fn has_ready() -> bool {
    EXECUTOR.with(|executor| !executor.borrow().ready.is_empty())
}

/// Polls each task that is ready now once; those that become ready meanwhile have the next turn.
fn run_ready() {
    let turns = EXECUTOR.with(|executor| executor.borrow().ready.len());
    for _ in 0..turns {
        let Some((id, mut task)) = EXECUTOR.with(|executor| executor.borrow_mut().take_ready())
        else {
            return;
        };
        let waker = id.waker();
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => EXECUTOR.with(|executor| executor.borrow_mut().put_back(id, task)),
            Poll::Ready(()) => {
                EXECUTOR.with(|executor| executor.borrow_mut().remove(id));
                // What the task held is dropped here, when it may use the executor again.
                drop(task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;

    /// Runs until no task is ready; nothing else can happen in a test.
    fn settle() {
        while has_ready() {
            run_ready();
        }
    }

    #[test]
    fn tasks_take_turns() {
        let log = Rc::new(RefCell::new(Vec::new()));
        for name in 0..3 {
            let log = Rc::clone(&log);
            spawn(async move {
                for turn in 0..2 {
                    log.borrow_mut().push((turn, name));
                    yield_now().await;
                }
            });
        }
        settle();
        assert_eq!(*log.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn a_stale_waker_wakes_nobody() {
        let kept = Rc::new(RefCell::new(None));
        let place = Rc::clone(&kept);
        spawn(core::future::poll_fn(move |context| {
            *place.borrow_mut() = Some(context.waker().clone());
            Poll::Ready(())
        }));
        settle();
        let polls = Rc::new(Cell::new(0));
        let counter = Rc::clone(&polls);
        spawn(core::future::poll_fn(move |_| {
            counter.set(counter.get() + 1);
            Poll::Pending
        }));
        settle();
        kept.borrow().as_ref().unwrap().wake_by_ref();
        settle();
        assert_eq!(polls.get(), 1, "the second task has the first one's place, not its wakers");
    }

    #[test]
    fn waking_twice_polls_once() {
        let polls = Rc::new(Cell::new(0));
        let waker = Rc::new(RefCell::new(None));
        let (counter, place) = (Rc::clone(&polls), Rc::clone(&waker));
        spawn(core::future::poll_fn(move |context| {
            counter.set(counter.get() + 1);
            *place.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }));
        settle();
        let waker = waker.borrow().clone().unwrap();
        waker.wake_by_ref();
        waker.wake();
        settle();
        assert_eq!(polls.get(), 2);
    }

    #[test]
    fn a_finished_task_may_spawn_when_it_is_dropped() {
        struct SpawnOnDrop(Rc<Cell<bool>>);
        impl Drop for SpawnOnDrop {
            fn drop(&mut self) {
                let flag = Rc::clone(&self.0);
                spawn(async move { flag.set(true) });
            }
        }
        let flag = Rc::new(Cell::new(false));
        let guard = SpawnOnDrop(Rc::clone(&flag));
        spawn(async move {
            let _guard = guard;
        });
        settle();
        assert!(flag.get());
    }

    /// Idling needs a monitor, so that it would be a panic here.
    #[test]
    fn a_task_that_sending_wakes_runs_before_the_guest_idles() {
        std::thread_local! {
            static WAITS: RefCell<Option<Waker>> = const { RefCell::new(None) };
        }
        struct Card;
        impl idle::Network for Card {
            fn receive(&self, _: Instant) -> bool {
                false
            }
            fn catch_up(&self, _: Instant, _: core::time::Duration) {}
            fn send(&self, _: Instant) -> bool {
                WAITS.take().expect("the task waits for room").wake();
                false
            }
            fn deadline(&self, _: Instant) -> Option<Instant> {
                None
            }
        }
        idle::set_network(&Card);
        spawn(core::future::poll_fn(|context| {
            WAITS.set(Some(context.waker().clone()));
            Poll::Pending
        }));
        idle::before_tasks();
        run_ready();
        idle::after_tasks(has_ready);
        assert!(has_ready());
    }
}
