//! The way from tasks to a thread and back: a task's side, and the thread's.

use super::scheduler::{Id, On, Scheduler};
use super::stack::{Area, Saved};
use super::switch::switch;
use crate::clock::Instant;
use crate::registers::virtual_registers;
use crate::{idle, preemption, upcalls};
use core::cell::{Cell, RefCell};
use core::sync::atomic::Ordering;

vcpu_local! {
    static SCHEDULER: RefCell<Scheduler<Saved>> = RefCell::new(Scheduler::new());
}

/// Where the two sides go on when they are switched to.
struct StackPointers {
    task: Cell<u64>,
    thread: Cell<u64>,
}

vcpu_local! {
    static STACK_POINTERS: StackPointers =
        StackPointers { task: Cell::new(0), thread: Cell::new(0) };
}

vcpu_local! {
    static PREPARED: Cell<bool> = Cell::new(false);
}

/// Calls `use_it` with the scheduler, which it must not use again meanwhile.
pub(super) fn with_scheduler<R>(use_it: impl FnOnce(&mut Scheduler<Saved>) -> R) -> R {
    SCHEDULER.with(|scheduler| use_it(&mut scheduler.borrow_mut()))
}

/// Has threads take part in every turn, and upcalls preempt them.
///
/// # Panics
/// If the program handles upcalls itself.
pub(super) fn prepare() {
    if !PREPARED.with(|prepared| prepared.replace(true)) {
        upcalls::give_to_threads(on_upcall);
        idle::set_threads(&Turn);
    }
}

/// The threads' part in every turn of the idle loop.
struct Turn;

impl idle::Threads for Turn {
    fn are_ready(&self) -> bool {
        with_scheduler(|scheduler| scheduler.has_ready())
    }

    fn run(&self, nearest: Option<Instant>) {
        let started = with_scheduler(|scheduler| scheduler.start(Instant::now()));
        let Some((mut saved, until)) = started else { return };
        let deadline = nearest.map_or(until, |nearest| nearest.min(until));
        virtual_registers().run_deadline_ns.store(deadline.as_ns().max(1), Ordering::Relaxed);
        let area = Area::of_program();
        let rsp = saved.restore(area);
        let holds = preemption::enter_thread(leave);
        let save = STACK_POINTERS.with(|pointers| pointers.task.as_ptr());
        // SAFETY: the stack of the thread was just put where it belongs, and is taken away from there
        // before anything else goes on with it; `save` points to a static.
        unsafe { switch(save, rsp) };
        preemption::leave_thread(holds);
        virtual_registers().run_deadline_ns.store(0, Ordering::Relaxed);
        saved.take(area, STACK_POINTERS.with(|pointers| pointers.thread.get()));
        with_scheduler(|scheduler| scheduler.stopped(saved, Instant::now()));
    }
}

/// The thread's side: has tasks go on; returns when this thread runs again.
pub(super) fn leave() {
    assert!(!preemption::is_held(), "a thread cannot wait where it must not be preempted");
    let registers = virtual_registers();
    loop {
        registers.upcall_enabled.store(0, Ordering::SeqCst);
        let (save, load) = STACK_POINTERS.with(|it| (it.thread.as_ptr(), it.task.get()));
        // SAFETY: the task's side waits in `run` for exactly this; `save` points to a static.
        unsafe { switch(save, load) };
        if arrive() {
            return;
        }
    }
}

/// Has upcalls come from here on. False if something came before: then the thread is to leave again.
pub(super) fn arrive() -> bool {
    let registers = virtual_registers();
    registers.upcall_enabled.store(1, Ordering::SeqCst);
    registers.pending.load(Ordering::SeqCst) == 0
}

/// What an upcall does: they come while a thread runs. The permission for the next is given when this thread
/// goes on after it has given way.
fn on_upcall() {
    preemption::upcall();
}

/// Has the thread that runs wait, unless what it waits for has happened.
pub(super) fn wait(on: On) {
    if with_scheduler(|scheduler| scheduler.wait(on)) {
        leave();
    }
}

/// The thread that runs; `None` in a task.
pub(super) fn current() -> Option<Id> {
    if preemption::in_thread() { with_scheduler(|scheduler| scheduler.current()) } else { None }
}
