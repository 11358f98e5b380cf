//! Leaps of time: what passed while this guest could not run, because it was held, swapped out or parked, or was
//! only a snapshot. What was due meanwhile is not to be taken for lost.

use crate::clock::Instant;
use core::cell::Cell;
use core::time::Duration;

/// How late a guest has to be that it counts as a leap. Less, busy hosts do too.
const LEAST: Duration = Duration::from_secs(1);

/// Turns after a leap for which timers wait at most, as long as something arrives.
const TURNS_MAX: u32 = 16;

#[derive(Clone, Copy)]
struct State {
    /// When the guest is to run at the latest.
    expected: Instant,
    /// When the last leap was over.
    ended: Instant,
    /// Turns for which timers wait at most from now on.
    turns: u32,
}

vcpu_local! {
    static STATE: Cell<State> = Cell::new(State {
        expected: Instant::from_ns(u64::MAX),
        ended: Instant::from_ns(0),
        turns: 0,
    });
}

fn update<R>(change: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(|cell| {
        let mut state = cell.get();
        let result = change(&mut state);
        cell.set(state);
        result
    })
}

/// Notes that the guest is to run at `at`, or before.
pub(crate) fn expect(at: Instant) {
    update(|state| state.expected = at);
}

/// How late the guest is at `now`, if that is a leap. From then on timers wait for what has arrived.
pub(crate) fn length(now: Instant) -> Option<Duration> {
    update(|state| {
        let late = now.since(state.expected);
        (late >= LEAST).then(|| {
            state.turns = TURNS_MAX;
            late
        })
    })
}

/// Notes that the guest did nothing until `now` of what was due before.
pub(crate) fn end(now: Instant) {
    update(|state| state.ended = now);
}

/// When the last leap was over; 0 if there was none.
pub(crate) fn ended() -> Instant {
    STATE.with(|cell| cell.get().ended)
}

/// Whether timers have to wait for another turn, because something `arrived` in this one that was on its way before
/// they were due.
pub(crate) fn timers_wait(arrived: bool) -> bool {
    update(|state| {
        state.turns = if arrived { state.turns.saturating_sub(1) } else { 0 };
        state.turns > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(number: u64) -> Instant {
        Instant::from_ns(number * 1_000_000_000)
    }

    #[test]
    fn a_guest_that_runs_when_it_is_to_makes_no_leap() {
        assert_eq!(length(second(1000)), None, "nothing was expected");
        expect(second(10));
        assert_eq!(length(second(3)), None, "something arrived before");
        assert_eq!(length(second(10) + LEAST / 2), None);
        assert!(!timers_wait(true));
    }

    #[test]
    fn what_arrived_goes_before_timers_for_some_turns_after_a_leap() {
        expect(second(10));
        assert_eq!(length(second(70)), Some(Duration::from_secs(60)));
        assert!(timers_wait(true));
        assert!(!timers_wait(false));
        assert!(!timers_wait(true), "that came later");
        assert_eq!(length(second(70)), Some(Duration::from_secs(60)));
        let turns = (0..).take_while(|_| timers_wait(true)).count();
        assert!(turns < TURNS_MAX as usize, "a flood does not keep timers from firing");
    }
}
