//! Policy, and nothing but policy: when a guest that asked to idle sleeps, and how long a turn lasts.
//!
//! No clock is read and nothing is waited for here: time comes in as nanoseconds, decisions go out.

/// What to do with a guest that rang the IDLE doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Something is pending: continue the guest.
    Run,
    /// The deadline has passed: raise the timer's line and continue the guest.
    TimerDue,
    /// Sleep until the deadline (in ns), or for ever, or until something is pending.
    SleepUntil(Option<u64>),
}

/// Decides for a guest at time `now_ns` whose idle deadline is `deadline_ns`, where it has one.
///
/// Something pending comes before a deadline, as the guest looks at both when it runs.
#[must_use]
pub fn idle(now_ns: u64, pending: bool, deadline_ns: Option<u64>) -> Idle {
    match deadline_ns {
        _ if pending => Idle::Run,
        Some(deadline) if deadline <= now_ns => Idle::TimerDue,
        deadline => Idle::SleepUntil(deadline),
    }
}

/// The earlier of two deadlines, where `None` is never.
#[must_use]
pub fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (deadline, None) | (None, deadline) => deadline,
    }
}

/// How long a guest may compute before the monitor looks after its devices, in ns: also the longest an
/// arrival waits for a guest that computes without looking.
pub const QUANTUM_NS: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_work_comes_before_everything() {
        assert_eq!(idle(10, true, None), Idle::Run);
        assert_eq!(idle(10, true, Some(5)), Idle::Run);
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        assert_eq!(idle(10, false, Some(10)), Idle::TimerDue);
        assert_eq!(idle(10, false, Some(0)), Idle::TimerDue);
        assert_eq!(idle(10, false, Some(11)), Idle::SleepUntil(Some(11)));
        assert_eq!(idle(10, false, None), Idle::SleepUntil(None));
    }

    #[test]
    fn never_is_later_than_anything() {
        assert_eq!(earlier(None, None), None);
        assert_eq!(earlier(Some(3), None), Some(3));
        assert_eq!(earlier(None, Some(4)), Some(4));
        assert_eq!(earlier(Some(3), Some(4)), Some(3));
    }
}
