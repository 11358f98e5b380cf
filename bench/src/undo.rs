//! What is undone when a measurement ends, whatever ends it: mounts, loop devices, swap files, groups, folders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

type Action = Box<dyn FnOnce() + Send>;

/// What there is to undo, by numbers. Locked while something is made or undone, so that a signal comes before or
/// after it.
static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Something that is undone when this is dropped, or a signal ends the benchmark.
#[derive(Debug)]
pub(crate) struct Undo(u64);

impl Undo {
    /// Makes something, which `undo` undoes; neither makes or undoes anything else in this way.
    pub(crate) fn of<R: Clone + Send + 'static, E>(
        make: impl FnOnce() -> Result<R, E>,
        undo: impl FnOnce(R) + Send + 'static,
    ) -> Result<(R, Self), E> {
        let mut actions = actions();
        let made = make()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let copy = made.clone();
        actions.push((number, Box::new(move || undo(copy))));
        Ok((made, Self(number)))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let mut actions = actions();
        if let Some(place) = actions.iter().position(|(number, _)| *number == self.0) {
            let (_, action) = actions.remove(place);
            action();
        }
    }
}

/// What there is to undo. As long as this is there, nothing is made or undone by others.
pub(crate) struct Held(MutexGuard<'static, Vec<(u64, Action)>>);

/// Waits until what is being made or undone is.
pub(crate) fn hold() -> Held {
    Held(actions())
}

/// Undoes everything, the last thing first; gives back what is held, for it to be so until the end.
pub(crate) fn all(mut held: Held) -> Held {
    while let Some((_, action)) = held.0.pop() {
        action();
    }
    held
}

/// Tries until it is done, but no longer than `patience`: who was killed is there for a moment still. Says whether
/// it is done.
pub(crate) fn until(patience: Duration, mut is_done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_done() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

fn actions() -> MutexGuard<'static, Vec<(u64, Action)>> {
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Arc;

    #[test]
    fn each_thing_is_undone_once() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = done.clone();
            let made =
                Undo::of(|| Ok::<_, Infallible>(what), move |it| done.lock().unwrap().push(it));
            made.unwrap().1
        };
        let (first, second, third) = (note("first"), note("second"), note("third"));
        drop(second);
        drop(all(hold()));
        drop(first);
        drop(third);
        assert_eq!(*done.lock().unwrap(), ["second", "third", "first"]);
    }

    #[test]
    fn what_was_not_made_is_not_undone() {
        let made = Undo::of(|| Err::<(), _>("no"), |()| panic!("there is nothing to undo"));
        assert_eq!(made.unwrap_err(), "no");
    }
}
