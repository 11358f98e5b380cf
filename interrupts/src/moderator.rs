//! When a guest that computes is interrupted for what has arrived: interrupt moderation, as network
//! cards do it.
//!
//! No clock is read here: time comes in as nanoseconds of one monotonic clock.

/// The default of [`Coalescing::Adaptive`]'s shortest window, in ns: a quiet guest is interrupted at once.
pub const SHORTEST_NS: u64 = 0;

/// The default of [`Coalescing::Adaptive`]'s longest window, in ns.
pub const LONGEST_NS: u64 = 500_000;

/// How arrivals are gathered while a guest computes. A guest that idles hears of everything at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalescing {
    /// Every arrival interrupts at once.
    Off,
    /// The same window whatever the load.
    Fixed {
        /// Longest time in ns from the first arrival to the interruption; 0 = at once.
        window_ns: u64,
        /// So many arrivals interrupt before the window ends; 0 = any number may gather.
        count: u32,
    },
    /// A window that is short when little arrives and long under load.
    Adaptive {
        /// The window in ns when little arrives.
        shortest_ns: u64,
        /// The window in ns that the heaviest load comes near to, and none exceeds.
        longest_ns: u64,
    },
}

impl Default for Coalescing {
    fn default() -> Self {
        Self::Adaptive { shortest_ns: SHORTEST_NS, longest_ns: LONGEST_NS }
    }
}

/// How many arrivals the longest window must be able to gather before waiting is worth it at all.
const WORTHWHILE: u64 = 4;

/// The part of the pace that each delivery renews: one in so many.
const RENEWED: u64 = 4;

/// Says when to interrupt a guest, by what arrived and what was delivered.
///
/// The adaptive window follows the pace: the mean time between arrivals, over the last few deliveries.
/// Where the longest window would gather fewer than four arrivals, waiting costs latency and saves next to
/// nothing: the window is the shortest. From there on it grows linearly with the shrinking pace, towards
/// the longest as arrivals follow each other without a gap. A silence as long as the longest window is
/// forgotten load: the first arrival after it waits for the shortest window only.
#[derive(Clone, Debug)]
pub struct Moderator {
    coalescing: Coalescing,
    /// When the first arrival came that is not delivered.
    first_ns: Option<u64>,
    /// Arrivals since the last delivery.
    arrivals: u32,
    /// When something was last delivered.
    delivered_ns: Option<u64>,
    /// Mean time between arrivals, in ns, at most the longest window.
    pace_ns: u64,
}

impl Moderator {
    /// A moderator for a guest to which nothing has arrived.
    #[must_use]
    pub fn new(coalescing: Coalescing) -> Self {
        let pace_ns = coalescing.longest_ns();
        Self { coalescing, first_ns: None, arrivals: 0, delivered_ns: None, pace_ns }
    }

    /// Something arrived at `now_ns`. Gives the time at which the guest is to be interrupted for all that has
    /// arrived since the last delivery: `now_ns` for at once, and never later than one window after the first
    /// of it (or `now_ns`, where that has passed).
    #[must_use]
    pub fn arrived(&mut self, now_ns: u64) -> u64 {
        self.arrivals = self.arrivals.saturating_add(1);
        let first_ns = *self.first_ns.get_or_insert(now_ns);
        if self.arrivals == 1 && self.was_silent(now_ns) {
            self.pace_ns = self.coalescing.longest_ns();
        }
        if self.is_enough() {
            return now_ns;
        }
        first_ns.saturating_add(self.window_ns()).max(now_ns)
    }

    /// The guest was told at `now_ns` of everything that had arrived: `gathered` events by the count of
    /// whoever took them in. It may have seen more than were reported as arrivals, for instance because the
    /// guest left guest mode by itself meanwhile.
    pub fn delivered(&mut self, now_ns: u64, gathered: u32) {
        let gathered = u64::from(gathered.max(self.arrivals));
        (self.first_ns, self.arrivals) = (None, 0);
        if gathered == 0 {
            return;
        }
        if let Some(before_ns) = self.delivered_ns {
            let gap_ns = now_ns.saturating_sub(before_ns) / gathered;
            let sample_ns = gap_ns.min(self.coalescing.longest_ns());
            // Rounded up, so that a pace of nothing but single arrivals comes back to the longest.
            let renewed = (self.pace_ns - self.pace_ns / RENEWED) + sample_ns.div_ceil(RENEWED);
            self.pace_ns = renewed.min(self.coalescing.longest_ns());
        }
        self.delivered_ns = Some(now_ns);
    }

    /// Longest time in ns that the next arrival waits, as things are.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        match self.coalescing {
            Coalescing::Off => 0,
            Coalescing::Fixed { window_ns, .. } => window_ns,
            Coalescing::Adaptive { shortest_ns, longest_ns } => {
                let quiet_ns = longest_ns / WORTHWHILE;
                let load = u128::from(quiet_ns.saturating_sub(self.pace_ns));
                let window = u128::from(longest_ns) * load / u128::from(quiet_ns.max(1));
                (window as u64).max(shortest_ns).min(longest_ns)
            }
        }
    }

    /// Whether as much has arrived as is never exceeded.
    fn is_enough(&self) -> bool {
        match self.coalescing {
            Coalescing::Off => true,
            Coalescing::Fixed { count, .. } => count != 0 && self.arrivals >= count,
            Coalescing::Adaptive { .. } => false,
        }
    }

    fn was_silent(&self, now_ns: u64) -> bool {
        let silent_ns = self.delivered_ns.map(|before_ns| now_ns.saturating_sub(before_ns));
        silent_ns.is_some_and(|silent_ns| silent_ns >= self.coalescing.longest_ns())
    }
}

impl Coalescing {
    /// The longest that anything waits, in ns.
    #[must_use]
    pub fn longest_ns(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Fixed { window_ns, .. } => window_ns,
            Self::Adaptive { longest_ns, .. } => longest_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals `gap_ns` apart for 20 ms, each delivered when it is due; gives the last window.
    fn steady(moderator: &mut Moderator, start_ns: u64, gap_ns: u64) -> u64 {
        let (mut due, mut gathered) = (u64::MAX, 0);
        for now in (start_ns..start_ns + 20_000_000).step_by(gap_ns as usize) {
            if due <= now {
                moderator.delivered(due, gathered);
                gathered = 0;
            }
            gathered += 1;
            due = moderator.arrived(now);
        }
        moderator.window_ns()
    }

    #[test]
    fn off_is_at_once() {
        let mut moderator = Moderator::new(Coalescing::Off);
        assert_eq!([moderator.arrived(5), moderator.arrived(6)], [5, 6]);
    }

    #[test]
    fn a_fixed_window_begins_with_the_first_arrival() {
        let mut moderator = Moderator::new(Coalescing::Fixed { window_ns: 100, count: 0 });
        assert_eq!([moderator.arrived(10), moderator.arrived(60)], [110, 110]);
        assert_eq!(moderator.arrived(500), 500, "overdue is now");
        moderator.delivered(500, 3);
        assert_eq!(moderator.arrived(600), 700);
    }

    #[test]
    fn a_full_batch_does_not_wait() {
        let mut moderator = Moderator::new(Coalescing::Fixed { window_ns: 100, count: 2 });
        assert_eq!([moderator.arrived(10), moderator.arrived(20)], [110, 20]);
        moderator.delivered(20, 2);
        assert_eq!(moderator.arrived(30), 130);
    }

    #[test]
    fn the_adaptive_window_grows_with_the_load_and_forgets_it_in_silence() {
        let mut moderator = Moderator::new(Coalescing::default());
        assert_eq!(moderator.arrived(0), 0, "the very first");
        moderator.delivered(0, 1);
        assert_eq!(steady(&mut moderator, 1_000_000, 400_000), 0, "2,500 a second");
        let some = steady(&mut moderator, 30_000_000, 60_000);
        assert!((150_000..350_000).contains(&some), "17,000 a second: {some}");
        let long = steady(&mut moderator, 60_000_000, 2_000);
        assert!((450_000..=LONGEST_NS).contains(&long), "500,000 a second: {long}");
        assert_eq!(moderator.arrived(90_000_000), 90_000_000, "after a silence");
    }

    #[test]
    fn load_that_nobody_announced_counts() {
        let mut moderator = Moderator::new(Coalescing::default());
        for turn in 0..20 {
            moderator.delivered(turn * 100_000, 50);
        }
        assert!(moderator.arrived(1_950_000) > 1_950_000 + 400_000);
    }
}
