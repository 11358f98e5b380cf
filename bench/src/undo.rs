//! What is undone when a measurement ends, whatever ends it: mounts, loop devices, swap files, folders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

/// What there is to undo, by numbers.
static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Something that is undone when this is dropped, or a signal ends the benchmark.
#[derive(Debug)]
pub(crate) struct Undo(u64);

impl Undo {
    /// Undone by `action`.
    pub(crate) fn by(action: impl FnOnce() + Send + 'static) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        with_actions(|actions| actions.push((number, Box::new(action))));
        Self(number)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let action = with_actions(|actions| {
            let place = actions.iter().position(|(number, _)| *number == self.0)?;
            Some(actions.remove(place).1)
        });
        if let Some(action) = action {
            action();
        }
    }
}

/// Undoes everything, the last thing first.
pub(crate) fn undo_all() {
    while let Some((_, action)) = with_actions(Vec::pop) {
        action();
    }
}

/// The list is not locked while actions are done.
fn with_actions<R>(look: impl FnOnce(&mut Vec<(u64, Action)>) -> R) -> R {
    look(&mut ACTIONS.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_thing_is_undone_once() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = done.clone();
            Undo::by(move || done.lock().unwrap().push(what))
        };
        let (first, second, third) = (note("first"), note("second"), note("third"));
        drop(second);
        undo_all();
        drop(first);
        drop(third);
        assert_eq!(*done.lock().unwrap(), ["second", "third", "first"]);
    }
}
