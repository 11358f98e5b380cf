//! Tests of threads on the host, where nothing arrives: upcalls are calls.

use super::*;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// What threads and tasks have done, in order.
fn log() -> &'static Shared<Vec<&'static str>> {
    Box::leak(Box::new(Shared::new(Vec::new())))
}

fn note(log: &Shared<Vec<&'static str>>, what: &'static str) {
    log.with(|log| log.push(what));
}

#[test]
fn a_thread_gives_its_result_to_who_waits() {
    let words = std::vec!["one", "two"];
    let handle = spawn(move || words.concat());
    assert!(!handle.is_finished());
    assert_eq!(task::block_on(handle), "onetwo");
    assert_eq!(spawn(|| 7).join(), 7, "in the program's start, too");
    assert_eq!(count(), 0);
}

#[test]
fn threads_start_and_join_threads() {
    let sum = spawn(|| {
        let parts: Vec<_> = (1..=10_u64).map(|part| spawn(move || part * part)).collect();
        parts.into_iter().map(JoinHandle::join).sum::<u64>()
    });
    assert_eq!(sum.join(), 385);
}

#[test]
fn a_dropped_handle_lets_the_thread_go_on() {
    let log = log();
    drop(spawn(move || note(log, "ran")));
    spawn(|| {}).join();
    log.with(|log| assert_eq!(*log, ["ran"]));
}

#[test]
fn tasks_run_before_threads_and_whenever_one_wakes_them() {
    let log = log();
    task::block_on(async move {
        let first = spawn(move || note(log, "first thread"));
        let second = spawn(move || note(log, "second thread"));
        task::yield_now().await;
        note(log, "task");
        let mut first = first;
        (&mut first).await;
        assert!(first.is_finished());
        note(log, "woken");
        second.await;
    });
    let expected = ["task", "first thread", "woken", "second thread"];
    log.with(|log| assert_eq!(*log, expected));
}

#[test]
fn yielding_threads_alternate() {
    let log = log();
    let thread = |name| {
        spawn(move || {
            for _ in 0..2 {
                note(log, name);
                yield_now();
            }
        })
    };
    let (one, two) = (thread("one"), thread("two"));
    one.join();
    two.join();
    log.with(|log| assert_eq!(*log, ["one", "two", "one", "two"]));
}

#[test]
fn an_upcall_interrupts_a_thread_where_it_is_and_tasks_run() {
    let log = log();
    task::block_on(async move {
        let handle = spawn(move || {
            let on_stack: [u64; 100] = core::array::from_fn(|n| n as u64);
            note(log, "before");
            preemption::upcall();
            note(log, "after");
            core::hint::black_box(on_stack).iter().sum::<u64>()
        });
        crate::spawn(async move {
            for _ in 0..3 {
                task::yield_now().await;
            }
            note(log, "task");
        });
        assert_eq!(handle.await, 4950);
    });
    log.with(|log| assert_eq!(*log, ["task", "before", "after"]));
}

#[test]
fn where_preemption_is_off_an_upcall_waits() {
    let log = log();
    let other = spawn(move || note(log, "other"));
    let this = spawn(move || {
        without_preemption(|| {
            other.thread().unpark();
            preemption::upcall();
            note(log, "not interrupted");
        });
        note(log, "went on");
        other.is_finished()
    });
    assert!(this.join());
    log.with(|log| assert_eq!(log[1..], ["not interrupted", "went on"]));
}

#[test]
fn parked_threads_wait_for_their_unpark() {
    let log = log();
    let sleeper = spawn(move || {
        park();
        note(log, "unparked");
    });
    let thread = sleeper.thread();
    spawn(move || {
        note(log, "unparks");
        thread.unpark();
    })
    .join();
    sleeper.join();
    log.with(|log| assert_eq!(*log, ["unparks", "unparked"]));
    let early = spawn(|| {
        current().unwrap().unpark();
        park();
    });
    early.join();
    assert_eq!(current(), None);
}

#[test]
fn deep_stacks_come_and_go() {
    fn descend(depth: u64) -> u64 {
        let room = core::hint::black_box([depth; 64]);
        if depth == 0 {
            yield_now();
            return 0;
        }
        descend(depth - 1) + room[(depth % 64) as usize]
    }
    let threads: Vec<_> = (0..8).map(|n| spawn(move || descend(n * 20))).collect();
    let sums: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    let expected: Vec<_> = (0..8).map(|n| n * 20 * (n * 20 + 1) / 2).collect();
    assert_eq!(sums, expected);
}

#[test]
fn what_a_thread_owns_is_dropped_with_it() {
    let owned = Arc::new(());
    let seen = Arc::downgrade(&owned);
    spawn(move || drop(owned)).join();
    assert!(seen.upgrade().is_none());
    let result = spawn(|| Arc::new(()));
    let log = Rc::new(RefCell::new(None));
    *log.borrow_mut() = Some(Arc::downgrade(&result.join()));
    assert!(log.borrow().as_ref().unwrap().upgrade().is_none());
}
