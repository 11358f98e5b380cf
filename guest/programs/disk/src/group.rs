//! Waiting for tasks that share work.

use crate::Failed;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};

/// Tasks of which some still run.
#[derive(Default)]
struct Group {
    running: Cell<usize>,
    failed: RefCell<Option<Failed>>,
    waiting: Cell<Option<Waker>>,
}

/// Runs `count` tasks at once until all are done; the result is one failure, if there is any.
pub async fn together<F>(count: u64, task: impl Fn() -> F) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>> + 'static,
{
    let group = Rc::new(Group::default());
    for _ in 0..count {
        group.running.set(group.running.get() + 1);
        let (group, task) = (Rc::clone(&group), task());
        ilwaco::spawn(async move {
            if let Err(failed) = task.await {
                group.failed.borrow_mut().get_or_insert(failed);
            }
            group.running.set(group.running.get() - 1);
            if let Some(waker) = group.waiting.take() {
                waker.wake();
            }
        });
    }
    poll_fn(|context| {
        group.waiting.set(Some(context.waker().clone()));
        if group.running.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let failed = group.failed.borrow_mut().take();
    failed.map_or(Ok(()), Err)
}
