//! Tests of the rules by which threads take turns, with a clock that the tests move.

use super::*;
use proptest::prelude::*;

fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

const SLICE_MS: u64 = SLICE.as_millis() as u64;

#[test]
fn threads_take_turns() {
    let mut scheduler = Scheduler::new();
    for name in 0..3 {
        scheduler.add(name);
    }
    let mut order = Vec::new();
    for turn in 0..6 {
        let now = at(turn * SLICE_MS);
        let (name, until) = scheduler.start(now).unwrap();
        assert_eq!(until, now + SLICE);
        order.push(name);
        scheduler.stopped(name, until);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_thread_that_was_interrupted_goes_on_for_the_rest_of_its_time() {
    let mut scheduler = Scheduler::new();
    scheduler.add("first");
    scheduler.add("second");
    let (first, until) = scheduler.start(at(0)).unwrap();
    scheduler.stopped(first, at(1));
    assert_eq!(scheduler.start(at(2)), Some(("first", until)));
    scheduler.stopped(first, until);
    assert_eq!(scheduler.start(until), Some(("second", until + SLICE)));
}

#[test]
fn a_thread_that_yields_goes_behind_the_others() {
    let mut scheduler = Scheduler::new();
    scheduler.add("first");
    scheduler.add("second");
    scheduler.start(at(0));
    scheduler.give_up_time();
    scheduler.stopped("first", at(0));
    assert_eq!(scheduler.start(at(0)).unwrap().0, "second");
}

#[test]
fn a_wait_ends_by_what_it_is_for_and_by_nothing_else() {
    let mut scheduler = Scheduler::new();
    let id = scheduler.add(());
    scheduler.start(at(0));
    assert!(scheduler.wait(On::Park));
    scheduler.stopped((), at(0));
    scheduler.wake(id);
    assert_eq!(scheduler.start(at(0)), None);
    scheduler.unpark(id);
    assert!(scheduler.start(at(0)).is_some());
    assert!(!scheduler.wait(On::Wake), "it was woken before it waited");
    assert!(scheduler.wait(On::Wake), "once");
}

#[test]
fn what_happens_before_a_wait_counts_once() {
    let mut scheduler = Scheduler::new();
    let id = scheduler.add(());
    scheduler.start(at(0));
    scheduler.unpark(id);
    scheduler.unpark(id);
    assert!(!scheduler.wait(On::Park));
    assert!(scheduler.wait(On::Park));
}

#[test]
fn an_ended_thread_leaves_its_place_but_not_its_name() {
    let mut scheduler = Scheduler::new();
    let old = scheduler.add(());
    scheduler.start(at(0));
    scheduler.finish();
    assert!(!scheduler.is_alive(old));
    scheduler.stopped((), at(0));
    assert_eq!((scheduler.count(), scheduler.start(at(0))), (0, None));
    let new = scheduler.add(());
    assert_eq!(new.index, old.index);
    scheduler.unpark(old);
    scheduler.start(at(0));
    assert!(scheduler.wait(On::Park), "what concerns the old thread is not the new one's");
    assert!(scheduler.is_alive(new) && !scheduler.is_alive(old));
    assert_eq!(Id::from_bits(new.to_bits()), new);
}

/// An interrupt between the decision to wait and leaving: the thread waits, comes back, and looks again.
#[test]
fn a_thread_may_be_interrupted_on_its_way_into_a_wait() {
    let mut scheduler = Scheduler::new();
    let id = scheduler.add(());
    scheduler.start(at(0));
    assert!(scheduler.wait(On::Park));
    scheduler.stopped((), at(0));
    scheduler.unpark(id);
    assert!(scheduler.start(at(0)).is_some());
    scheduler.stopped((), at(0));
    assert!(scheduler.start(at(0)).is_some(), "it left without waiting: it is ready");
}

/// What a thread does with its turn.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    Run { ms: u64, end: End },
    Unpark(usize),
    Wake(usize),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Interrupted,
    Yield,
    Park,
    Wait,
    Finish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        4 => Just(End::Interrupted),
        2 => Just(End::Yield),
        2 => Just(End::Park),
        2 => Just(End::Wait),
        1 => Just(End::Finish),
    ];
    let step = prop_oneof![
        1 => Just(Step::Add),
        5 => (0_u64..6, end).prop_map(|(ms, end)| Step::Run { ms, end }),
        1 => (0_usize..16).prop_map(Step::Unpark),
        1 => (0_usize..16).prop_map(Step::Wake),
    ];
    proptest::collection::vec(step, 1..300)
}

/// What the tests know of a thread: whether it is ready, waits, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Ready,
    Waits(On),
    Ended,
}

proptest! {
    /// Threads that are ready, and only they, run; none is passed over more often than there are others, but
    /// for those that go on with their time; and nothing that ends a wait is lost.
    #[test]
    fn every_ready_thread_has_its_turn(steps in steps()) {
        let mut scheduler = Scheduler::new();
        let mut known: Vec<(Id, Known, [bool; 2])> = Vec::new();
        let mut waited: Vec<usize> = Vec::new();
        let mut now = 0;
        let mut last = None;
        for step in steps {
            match step {
                Step::Add if known.len() < 16 => {
                    let id = scheduler.add(known.len());
                    known.push((id, Known::Ready, [false; 2]));
                    waited.push(0);
                }
                Step::Add => {}
                Step::Unpark(name) | Step::Wake(name) => {
                    let Some((id, state, happened)) = known.get_mut(name) else { continue };
                    let on = if matches!(step, Step::Unpark(_)) { On::Park } else { On::Wake };
                    if on == On::Park { scheduler.unpark(*id) } else { scheduler.wake(*id) }
                    match *state {
                        Known::Waits(what) if what == on => *state = Known::Ready,
                        _ => happened[on as usize] = true,
                    }
                }
                Step::Run { ms, end } => {
                    let ready = known.iter().filter(|it| it.1 == Known::Ready).count();
                    let Some((name, until)) = scheduler.start(at(now)) else {
                        prop_assert_eq!(ready, 0);
                        continue;
                    };
                    prop_assert_eq!(known[name].1, Known::Ready);
                    prop_assert!(until > at(now) && until <= at(now) + SLICE);
                    if last != Some(name) {
                        for other in 0..known.len() {
                            let passed = other != name && known[other].1 == Known::Ready;
                            waited[other] = if passed { waited[other] + 1 } else { 0 };
                            prop_assert!(waited[other] <= known.len(), "{other} starves");
                        }
                    }
                    now += ms;
                    let (_, state, happened) = &mut known[name];
                    match end {
                        End::Interrupted => {}
                        End::Yield => scheduler.give_up_time(),
                        End::Finish => {
                            scheduler.finish();
                            *state = Known::Ended;
                        }
                        End::Park | End::Wait => {
                            let on = if matches!(end, End::Park) { On::Park } else { On::Wake };
                            let waits = scheduler.wait(on);
                            prop_assert_eq!(waits, !core::mem::take(&mut happened[on as usize]));
                            if waits {
                                *state = Known::Waits(on);
                            }
                        }
                    }
                    scheduler.stopped(name, at(now));
                    last = Some(name).filter(|_| at(now) < until);
                }
            }
            let alive = known.iter().filter(|it| it.1 != Known::Ended).count();
            prop_assert_eq!(scheduler.count(), alive);
        }
    }
}
