//! When the next tick is due: moments at equal distances from the first, however late each is kept.

/// The moments of a fixed tick.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    period_ns: u64,
    due_ns: Option<u64>,
}

/// A tick that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// ns after it was due.
    pub late_ns: u64,
    /// Ticks that were due since and are left out.
    pub missed: u64,
}

impl Pace {
    /// A pace of `hz` ticks per second, at least 1; it stands until [`Pace::start`].
    #[must_use]
    pub fn new(hz: u32) -> Self {
        Self { period_ns: 1_000_000_000 / u64::from(hz.max(1)), due_ns: None }
    }

    /// Has the first tick be due one period after `now_ns`, unless the pace goes already.
    pub fn start(&mut self, now_ns: u64) {
        self.due_ns.get_or_insert(now_ns.saturating_add(self.period_ns));
    }

    /// Has no tick be due.
    pub fn stop(&mut self) {
        self.due_ns = None;
    }

    /// When the next tick is due, in ns.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Begins the tick that is due; `None` if none is. The next one is due on the same grid, after
    /// `now_ns`: ticks that were missed are not caught up with.
    pub fn begin(&mut self, now_ns: u64) -> Option<Begun> {
        let due = self.due_ns.filter(|&due| due <= now_ns)?;
        let late_ns = now_ns - due;
        let missed = late_ns / self.period_ns;
        self.due_ns = Some(due.saturating_add((missed + 1).saturating_mul(self.period_ns)));
        Some(Begun { late_ns, missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_ticks_do_not_move_the_grid() {
        let mut pace = Pace::new(50);
        assert_eq!((pace.due_ns(), pace.begin(u64::MAX)), (None, None));
        pace.start(1_000);
        pace.start(9_000);
        assert_eq!(pace.due_ns(), Some(20_001_000));
        assert_eq!(pace.begin(20_000_999), None);
        assert_eq!(pace.begin(20_001_500), Some(Begun { late_ns: 500, missed: 0 }));
        assert_eq!(pace.due_ns(), Some(40_001_000));
        assert_eq!(pace.begin(81_000_000), Some(Begun { late_ns: 40_999_000, missed: 2 }));
        assert_eq!(pace.due_ns(), Some(100_001_000));
        pace.stop();
        assert_eq!(pace.due_ns(), None);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let mut pace = Pace::new(0);
        pace.start(u64::MAX - 1);
        assert!(pace.begin(u64::MAX).is_some());
    }
}
