//! The idle state machine of one guest: when one that asked to idle spins, sleeps, sleeps deeply, and
//! leaves memory.

/// How a guest idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdlePolicy {
    /// False: it never sleeps but looks again and again, as on a machine without idle-with-timeout.
    pub sleep: bool,
    /// The longest a guest is awaited before it sleeps, in ns; 0 = it sleeps at once.
    pub spin_max_ns: u64,
    /// After how much sleep in one piece, in ns, a guest is deeply idle; `None` = never.
    pub deep_after_ns: Option<u64>,
    /// After how much its memory leaves, in ns; `None` = never.
    pub out_after_ns: Option<u64>,
    /// When it is parked; `None` = never.
    pub park: Option<ParkPolicy>,
}

/// When a guest that sleeps is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkPolicy {
    /// After how much sleep in one piece, in ns.
    pub after_ns: u64,
    /// How far its next deadline must be away then, in ns.
    pub horizon_ns: u64,
}

/// What is known when a guest asks to idle, and each time it could have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// Monotonic time in ns.
    pub now_ns: u64,
    /// The guest has an interrupt to take.
    pub pending: bool,
    /// A device has more to do at once.
    pub more: bool,
    /// The guest's idle deadline in ns, if it has one.
    pub deadline_ns: Option<u64>,
    /// A device has something to do at a certain time: until it has, the guest's memory stays.
    pub device_waits: bool,
    /// Somebody is there who would wake it, were it parked.
    pub kept: bool,
}

/// What to do with a guest that idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Something is pending: continue the guest.
    Run,
    /// The deadline has passed: raise the timer's line and continue the guest.
    TimerDue,
    /// Let the devices work on.
    Work,
    /// Look for events without waiting.
    Spin,
    /// The guest is deeply idle from here on: tell whoever listens, and decide again.
    Deepen,
    /// The guest's memory is to leave; decide again.
    SwapOut,
    /// The guest is to be parked; if that cannot be, decide again.
    Park,
    /// Sleep until this moment (in ns) at the latest, or for ever, or until an event.
    SleepUntil(Option<u64>),
}

/// Where a guest is between its IDLE and its next instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Spinning { since_ns: u64 },
    Asleep { since_ns: u64, done: Done },
}

/// What has been done with a guest since it fell asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Done {
    deepened: bool,
    swapped_out: bool,
    parked: bool,
}

/// Spinning starts, and ends, at this many ns: less is over before an event could come.
const SPIN_LEAST_NS: u64 = 2_000;

/// Decides for one guest. It spins for longer as long as events come soon enough to be worth it, and not
/// at all once they do not.
#[derive(Clone, Debug)]
pub struct IdleState {
    policy: IdlePolicy,
    phase: Phase,
    spin_ns: u64,
}

impl IdleState {
    /// A guest that runs.
    #[must_use]
    pub fn new(policy: IdlePolicy) -> Self {
        let spin_ns = policy.spin_max_ns.min(SPIN_LEAST_NS);
        Self { policy, phase: Phase::Running, spin_ns }
    }

    /// Whether the guest is deeply idle.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        matches!(self.phase, Phase::Asleep { done: Done { deepened: true, .. }, .. })
    }

    /// Decides for a guest that has rung IDLE and was not continued since.
    ///
    /// Something pending comes before a deadline, as the guest looks at both when it runs.
    pub fn next(&mut self, situation: Situation) -> Idle {
        let Situation { now_ns, pending, more, deadline_ns, .. } = situation;
        if pending || deadline_ns.is_some_and(|deadline| deadline <= now_ns) {
            self.runs(now_ns);
            return if pending { Idle::Run } else { Idle::TimerDue };
        }
        if more {
            return Idle::Work;
        }
        if !self.policy.sleep {
            return Idle::Spin;
        }
        self.rest(situation)
    }

    fn rest(&mut self, situation: Situation) -> Idle {
        let now_ns = situation.now_ns;
        match self.phase {
            Phase::Running if self.spin_ns > 0 => {
                self.phase = Phase::Spinning { since_ns: now_ns };
                Idle::Spin
            }
            Phase::Spinning { since_ns } if now_ns.saturating_sub(since_ns) < self.spin_ns => {
                Idle::Spin
            }
            Phase::Running | Phase::Spinning { .. } => {
                self.sleep(situation, now_ns, Done::default())
            }
            Phase::Asleep { since_ns, done } => self.sleep(situation, since_ns, done),
        }
    }

    /// The next thing to do with a guest that sleeps since `since_ns`.
    fn sleep(&mut self, situation: Situation, since_ns: u64, done: Done) -> Idle {
        let Situation { now_ns, deadline_ns, device_waits, kept, .. } = situation;
        // Whoever comes to keep it later has it parked as if it had been kept all the time.
        let done = Done { parked: done.parked && kept, ..done };
        let IdlePolicy { deep_after_ns, out_after_ns, park, .. } = self.policy;
        let at = |after: Option<u64>, is_done: bool| {
            after.filter(|_| !is_done).map(|after| since_ns.saturating_add(after))
        };
        let park_at = park.filter(|_| kept).filter(|park| {
            let when = now_ns.max(since_ns.saturating_add(park.after_ns));
            deadline_ns.is_none_or(|deadline| deadline >= when.saturating_add(park.horizon_ns))
        });
        let steps = [
            (at(deep_after_ns, done.deepened), Idle::Deepen, Done { deepened: true, ..done }),
            (
                at(out_after_ns, done.swapped_out || device_waits),
                Idle::SwapOut,
                Done { swapped_out: true, ..done },
            ),
            (
                at(park_at.map(|park| park.after_ns), done.parked || device_waits),
                Idle::Park,
                Done { parked: true, ..done },
            ),
        ];
        let due = steps.iter().find(|(at, ..)| at.is_some_and(|at| at <= now_ns));
        if let Some(&(_, step, done)) = due {
            self.phase = Phase::Asleep { since_ns, done };
            return step;
        }
        self.phase = Phase::Asleep { since_ns, done };
        Idle::SleepUntil(steps.iter().fold(deadline_ns, |until, (at, ..)| earlier(until, *at)))
    }

    /// The guest is continued: what came of spinning, or of not spinning, decides about the next time.
    fn runs(&mut self, now_ns: u64) {
        let most = self.policy.spin_max_ns;
        match self.phase {
            Phase::Spinning { .. } => self.spin_ns = (self.spin_ns * 2).min(most),
            // It slept so shortly that it could have been awaited.
            Phase::Asleep { since_ns, .. } if now_ns.saturating_sub(since_ns) <= most => {
                self.spin_ns = (self.spin_ns * 2).clamp(SPIN_LEAST_NS.min(most), most);
            }
            Phase::Asleep { .. } => {
                self.spin_ns = if self.spin_ns > SPIN_LEAST_NS { self.spin_ns / 2 } else { 0 };
            }
            Phase::Running => {}
        }
        self.phase = Phase::Running;
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: IdlePolicy = IdlePolicy {
        sleep: true,
        spin_max_ns: 0,
        deep_after_ns: Some(1_000_000),
        out_after_ns: None,
        park: None,
    };

    fn at(now_ns: u64) -> Situation {
        Situation { now_ns, kept: true, ..Situation::default() }
    }

    #[test]
    fn pending_work_comes_before_everything() {
        let mut idle = IdleState::new(POLICY);
        let pending = Situation { pending: true, more: true, deadline_ns: Some(5), ..at(10) };
        assert_eq!(idle.next(pending), Idle::Run);
        assert_eq!(idle.next(Situation { more: true, ..at(10) }), Idle::Work);
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let mut idle = IdleState::new(IdlePolicy { deep_after_ns: None, ..POLICY });
        let mut with = |deadline_ns| idle.next(Situation { deadline_ns, ..at(10) });
        assert_eq!(with(Some(10)), Idle::TimerDue);
        assert_eq!(with(Some(0)), Idle::TimerDue);
        assert_eq!(with(Some(11)), Idle::SleepUntil(Some(11)));
        assert_eq!(with(None), Idle::SleepUntil(None));
    }

    #[test]
    fn a_guest_that_sleeps_on_becomes_deeply_idle_once() {
        let mut idle = IdleState::new(POLICY);
        assert_eq!(idle.next(at(500)), Idle::SleepUntil(Some(1_000_500)));
        assert_eq!(idle.next(at(700)), Idle::SleepUntil(Some(1_000_500)), "a wake for nothing");
        assert_eq!(idle.next(at(1_000_500)), Idle::Deepen);
        assert!(idle.is_deep());
        assert_eq!(idle.next(at(1_000_600)), Idle::SleepUntil(None));
        assert_eq!(idle.next(Situation { pending: true, ..at(9_000_000) }), Idle::Run);
        assert!(!idle.is_deep());
        let timer = Situation { deadline_ns: Some(9_100_000), ..at(9_000_100) };
        assert_eq!(idle.next(timer), Idle::SleepUntil(Some(9_100_000)), "the timer is nearer");
    }

    #[test]
    fn a_guest_that_sleeps_on_leaves_memory_and_is_parked_each_once() {
        let park = ParkPolicy { after_ns: 3_000, horizon_ns: 500 };
        let policy = IdlePolicy {
            deep_after_ns: None,
            out_after_ns: Some(1_000),
            park: Some(park),
            ..POLICY
        };
        let mut idle = IdleState::new(policy);
        assert_eq!(idle.next(at(0)), Idle::SleepUntil(Some(1_000)));
        assert_eq!(idle.next(at(1_000)), Idle::SwapOut);
        assert_eq!(idle.next(at(1_010)), Idle::SleepUntil(Some(3_000)));
        assert_eq!(idle.next(at(3_005)), Idle::Park);
        assert_eq!(idle.next(at(3_010)), Idle::SleepUntil(None), "it could not be parked");
        assert_eq!(idle.next(Situation { pending: true, ..at(4_000) }), Idle::Run);
        assert_eq!(idle.next(at(5_000)), Idle::SleepUntil(Some(6_000)), "and all anew");
    }

    #[test]
    fn memory_stays_while_a_device_waits_for_its_time() {
        let policy = IdlePolicy { deep_after_ns: None, out_after_ns: Some(1_000), ..POLICY };
        let mut idle = IdleState::new(policy);
        let waiting = |now_ns| Situation { device_waits: true, ..at(now_ns) };
        assert_eq!(idle.next(waiting(0)), Idle::SleepUntil(None));
        assert_eq!(idle.next(waiting(2_000)), Idle::SleepUntil(None));
        assert_eq!(idle.next(at(2_000)), Idle::SwapOut);
    }

    #[test]
    fn a_guest_whose_deadline_is_near_is_not_parked() {
        let park = ParkPolicy { after_ns: 3_000, horizon_ns: 500 };
        let policy = IdlePolicy { deep_after_ns: None, park: Some(park), ..POLICY };
        let until = |deadline_ns, now_ns| {
            let situation = Situation { deadline_ns: Some(deadline_ns), ..at(now_ns) };
            let mut idle = IdleState::new(policy);
            idle.next(Situation { deadline_ns: Some(deadline_ns), ..at(0) });
            idle.next(situation)
        };
        assert_eq!(until(3_499, 10), Idle::SleepUntil(Some(3_499)));
        assert_eq!(until(3_499, 3_000), Idle::SleepUntil(Some(3_499)));
        assert_eq!(until(3_500, 10), Idle::SleepUntil(Some(3_000)));
        assert_eq!(until(3_500, 3_000), Idle::Park);
        assert_eq!(until(3_500, 3_001), Idle::SleepUntil(Some(3_500)), "it is nearer by then");
    }

    #[test]
    fn a_guest_is_parked_only_while_somebody_keeps_it() {
        let park = ParkPolicy { after_ns: 3_000, horizon_ns: 500 };
        let policy = IdlePolicy { deep_after_ns: None, park: Some(park), ..POLICY };
        let mut idle = IdleState::new(policy);
        let alone = |now_ns| Situation { kept: false, ..at(now_ns) };
        assert_eq!(idle.next(alone(0)), Idle::SleepUntil(None));
        assert_eq!(idle.next(at(1_000)), Idle::SleepUntil(Some(3_000)));
        assert_eq!(idle.next(alone(4_000)), Idle::SleepUntil(None));
        assert_eq!(idle.next(at(5_000)), Idle::Park);
        assert_eq!(idle.next(at(5_010)), Idle::SleepUntil(None), "it could not be parked");
        assert_eq!(idle.next(alone(6_000)), Idle::SleepUntil(None));
        assert_eq!(idle.next(at(7_000)), Idle::Park, "another one has come");
    }

    #[test]
    fn without_sleep_it_looks_again_for_ever() {
        let mut idle = IdleState::new(IdlePolicy { sleep: false, ..POLICY });
        assert!((0..100).all(|n| idle.next(at(n * 1_000_000)) == Idle::Spin));
    }

    /// How long a guest spins when it idles and nothing comes.
    fn spins(idle: &mut IdleState, start: u64) -> u64 {
        (0..)
            .step_by(100)
            .find(|ns| matches!(idle.next(at(start + ns)), Idle::SleepUntil(_)))
            .expect("it sleeps some time")
    }

    #[test]
    fn it_spins_for_longer_while_events_come_soon_and_not_at_all_when_they_do_not() {
        let mut idle = IdleState::new(IdlePolicy { spin_max_ns: 50_000, ..POLICY });
        assert_eq!(spins(&mut idle, 0), SPIN_LEAST_NS);
        for round in 1..10 {
            let start = round * 1_000_000;
            spins(&mut idle, start);
            idle.next(Situation { pending: true, ..at(start + 40_000) });
        }
        assert_eq!(spins(&mut idle, 20_000_000), 50_000);
        for round in 1..20 {
            let start = 20_000_000 + round * 10_000_000;
            idle.next(Situation { pending: true, ..at(start) });
            spins(&mut idle, start);
        }
        idle.next(Situation { pending: true, ..at(300_000_000) });
        assert_eq!(spins(&mut idle, 300_000_000), 0);
        idle.next(Situation { pending: true, ..at(300_010_000) });
        assert_eq!(spins(&mut idle, 300_010_000), SPIN_LEAST_NS, "a short sleep lets it try again");
    }

    #[test]
    fn never_is_later_than_anything() {
        assert_eq!(earlier(None, None), None);
        assert_eq!(earlier(Some(3), None), Some(3));
        assert_eq!(earlier(None, Some(4)), Some(4));
        assert_eq!(earlier(Some(3), Some(4)), Some(3));
    }
}
