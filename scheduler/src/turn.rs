//! The turn of one guest on its processor: quanta, and the credit of a guest that idles.
//!
//! A guest that has idled gets precedence on its next quantum, as compensation for what it left to
//! others (OSDI 2002 paper, section 3.2); one that uses its quantum up loses it until it idles again.

/// Who goes first where guests compete for a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precedence {
    /// It idled, and has credit.
    Credit,
    /// It burned a whole quantum since it last idled.
    Burned,
}

/// A guest that had less of the processor between two ticks than this part of a quantum has not computed but
/// waited: one in so many.
const RAN_PART: u64 = 8;

/// Who is entered more often than this between two ticks comes out often.
const OFTEN: u64 = 8;

/// What the end of a quantum found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The guest ran all through it without asking for anything: what has arrived meanwhile waits for it.
    pub computed_through: bool,
    /// It came out so often by itself that nothing that arrives waits for long.
    pub comes_out_often: bool,
    /// It may have: look again soon. (It has just woken, and may have waited for a processor.)
    pub look_again: bool,
    /// The guest's precedence is another than before.
    pub precedence_changed: bool,
}

/// The quanta of one guest, counted by whoever runs it.
#[derive(Clone, Debug)]
pub struct Turn {
    quantum_ns: u64,
    precedence: Precedence,
    /// It idled since the last tick.
    idled: bool,
    /// The processor time it had used when it began to use up the quantum it is in, in ns.
    used_before_ns: u64,
    /// The processor time it had used at the last tick, in ns.
    used_at_tick_ns: u64,
    /// There was no tick since it woke.
    fresh: bool,
    entries: u64,
    entries_before: u64,
}

impl Turn {
    /// A guest that has not run yet, which counts as idle before.
    #[must_use]
    pub fn new(quantum_ns: u64) -> Self {
        let precedence = Precedence::Credit;
        Self {
            quantum_ns,
            precedence,
            idled: true,
            used_before_ns: 0,
            used_at_tick_ns: 0,
            fresh: true,
            entries: 0,
            entries_before: 0,
        }
    }

    /// Length of a quantum in ns.
    #[must_use]
    pub fn quantum_ns(&self) -> u64 {
        self.quantum_ns
    }

    /// The guest's precedence.
    #[must_use]
    pub fn precedence(&self) -> Precedence {
        self.precedence
    }

    /// A quantum begins, after a sleep in which none was measured.
    pub fn begins(&mut self) {
        self.fresh = true;
        self.entries_before = self.entries;
    }

    /// The guest is entered.
    pub fn enters(&mut self) {
        self.entries = self.entries.wrapping_add(1);
    }

    /// The guest slept for so long. True: its precedence is another than before.
    pub fn slept(&mut self, slept_ns: u64) -> bool {
        self.idled = true;
        // Who sleeps for less than a quantum has left nothing to others that is worth a compensation.
        slept_ns >= self.quantum_ns && self.set(Precedence::Credit)
    }

    /// The timer of a quantum went off; the guest has used so much processor time, in ns, since it started.
    /// (Where processors are short, that is less than the time that has passed.)
    pub fn quantum_ended(&mut self, used_ns: u64) -> Ended {
        let entries = self.entries.wrapping_sub(self.entries_before);
        let (alone, comes_out_often) = (entries <= 1, entries > OFTEN);
        let ran_ns = used_ns.saturating_sub(std::mem::replace(&mut self.used_at_tick_ns, used_ns));
        let look_again = std::mem::replace(&mut self.fresh, false) && alone;
        let computed_through = alone && !look_again && ran_ns >= self.quantum_ns / RAN_PART;
        self.entries_before = self.entries;
        if std::mem::replace(&mut self.idled, false) {
            self.used_before_ns = used_ns;
        }
        let burned = used_ns.saturating_sub(self.used_before_ns) >= self.quantum_ns;
        if burned {
            self.used_before_ns = used_ns;
        }
        let precedence_changed = burned && self.set(Precedence::Burned);
        Ended { computed_through, comes_out_often, look_again, precedence_changed }
    }

    fn set(&mut self, precedence: Precedence) -> bool {
        std::mem::replace(&mut self.precedence, precedence) != precedence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: u64 = 2_000_000;

    #[test]
    fn a_burned_quantum_costs_the_credit_and_a_sleep_brings_it_back() {
        let mut turn = Turn::new(QUANTUM);
        turn.enters();
        assert!(!turn.quantum_ended(5 * QUANTUM).precedence_changed, "it has just begun");
        assert!(
            !turn.quantum_ended(6 * QUANTUM - 1).precedence_changed,
            "it did not have all of it"
        );
        assert!(turn.quantum_ended(6 * QUANTUM).precedence_changed);
        assert_eq!(turn.precedence(), Precedence::Burned);
        assert!(!turn.quantum_ended(8 * QUANTUM).precedence_changed, "it has none to lose");
        assert!(!turn.slept(QUANTUM - 1), "a nap");
        assert!(turn.slept(QUANTUM));
        assert_eq!(turn.precedence(), Precedence::Credit);
        assert!(!turn.slept(QUANTUM), "it has it");
    }

    #[test]
    fn a_guest_that_naps_in_each_quantum_keeps_its_credit() {
        let mut turn = Turn::new(QUANTUM);
        for n in 0..10 {
            turn.slept(1_000);
            assert!(!turn.quantum_ended(n * QUANTUM).precedence_changed);
        }
        assert_eq!(turn.precedence(), Precedence::Credit);
    }

    #[test]
    fn who_answers_now_and_then_does_not_come_out_often() {
        let mut turn = Turn::new(QUANTUM);
        for (entries, often) in [(3, false), (OFTEN, false), (OFTEN + 1, true)] {
            (0..entries).for_each(|_| turn.enters());
            assert_eq!(turn.quantum_ended(0).comes_out_often, often, "{entries}");
        }
    }

    #[test]
    fn who_enters_once_a_quantum_computed_through_it() {
        let mut turn = Turn::new(QUANTUM);
        let mut used = 0;
        let mut tick = |turn: &mut Turn, entries, ran| {
            (0..entries).for_each(|_| turn.enters());
            used += ran;
            let ended = turn.quantum_ended(used);
            (ended.look_again, ended.computed_through)
        };
        assert_eq!(tick(&mut turn, 2, QUANTUM), (false, false));
        assert_eq!(
            tick(&mut turn, 1, QUANTUM),
            (false, true),
            "the entry after the tick is its only one"
        );
        assert_eq!(tick(&mut turn, 2, QUANTUM), (false, false));
        assert_eq!(tick(&mut turn, 1, QUANTUM / 10), (false, false), "it waited for a processor");
        turn.enters();
        turn.enters();
        turn.begins();
        assert_eq!(
            tick(&mut turn, 1, QUANTUM),
            (true, false),
            "how much of it was before the sleep?"
        );
        assert_eq!(tick(&mut turn, 1, QUANTUM / 4), (false, true));
    }
}
