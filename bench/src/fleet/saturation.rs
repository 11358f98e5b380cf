//! The most that a fleet can take: more and more is asked for until it does not follow.

use super::driver::Tally;
use anyhow::Result;

/// A fleet follows if it answers this part of what is asked.
const FOLLOWS: f64 = 0.95;

/// … and 99 of 100 requests within this time, in ms.
const P99_MAX_MS: f64 = 1000.0;

/// Where the search begins, in requests a second, and where it gives up.
const FIRST: f64 = 400.0;
const LAST: f64 = 500_000.0;

/// The search ends when what is known to be followed and what is not are closer than this ratio.
const CLOSE: f64 = 1.06;

/// The driver is the limit if it takes more of a processor than this.
const DRIVER_MAX: f64 = 0.9;

/// What a load came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Probe {
    pub(super) offered: f64,
    pub(super) achieved: f64,
    pub(super) p99_ms: Option<f64>,
    /// Part of a processor that the driver took, for each of its threads.
    pub(super) driver: f64,
}

/// The most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Saturation {
    /// Requests a second that were answered, where the fleet followed.
    pub(super) per_s: f64,
    /// The driver had no more to give either.
    pub(super) by_driver: bool,
}

impl Probe {
    /// Of what was counted, by so many threads.
    pub(super) fn of(tally: &Tally, threads: usize) -> Self {
        Self {
            offered: tally.offered_per_s(),
            achieved: tally.achieved_per_s(),
            p99_ms: tally.latency_ms(990),
            driver: tally.processor_share() / threads.max(1) as f64,
        }
    }

    fn follows(&self) -> bool {
        self.achieved >= FOLLOWS * self.offered && self.p99_ms.is_some_and(|ms| ms <= P99_MAX_MS)
    }
}

/// Looks for the most, by asking for so many requests a second: twice as many each time, and from the first that were too
/// many twice on, half-way between, by ratio; after what was too much the fleet is left alone by `rest`. 0 if nothing is
/// followed.
pub(super) fn search(
    mut probe: impl FnMut(f64) -> Result<Probe>,
    mut rest: impl FnMut(),
) -> Result<Saturation> {
    let (mut most, mut too_many) = (Saturation { per_s: 0.0, by_driver: false }, None);
    let (mut good, mut rate) = (None, FIRST);
    while rate <= LAST {
        let mut found = probe(rate)?;
        if !found.follows() {
            // Once may be by chance.
            rest();
            found = probe(rate)?;
        }
        if found.follows() {
            good = Some(rate);
            most.per_s = most.per_s.max(found.achieved);
        } else {
            too_many = Some(rate);
            most.by_driver = found.driver > DRIVER_MAX;
            rest();
        }
        rate = match (good, too_many) {
            (Some(good), Some(bad)) if bad / good < CLOSE => break,
            (Some(good), Some(bad)) => (good * bad).sqrt(),
            (Some(good), None) => 2.0 * good,
            (None, Some(bad)) if bad < 1.0 => break,
            (None, Some(bad)) => bad / 2.0,
            (None, None) => break,
        };
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(rate: f64, achieved: f64, p99_ms: f64) -> Probe {
        Probe { offered: rate, achieved, p99_ms: Some(p99_ms), driver: 0.2 }
    }

    #[test]
    fn what_is_followed_is_found() {
        let mut asked = 0;
        let found = search(
            |rate| {
                asked += 1;
                Ok(probe(rate, rate.min(630.0), 5.0))
            },
            || (),
        );
        let found = found.unwrap().per_s;
        assert!((600.0..=664.0).contains(&found) && asked < 16, "{found}, {asked}");
    }

    #[test]
    fn one_bad_moment_is_not_believed() {
        let mut asked = 0;
        let mut moody = |rate: f64| {
            asked += 1;
            Ok(probe(rate, if asked == 2 { 1.0 } else { rate.min(630.0) }, 5.0))
        };
        assert!(search(&mut moody, || ()).unwrap().per_s > 600.0);
    }

    #[test]
    fn latency_that_explodes_is_not_followed() {
        let found =
            search(|rate| Ok(probe(rate, rate, if rate > 180.0 { 2000.0 } else { 3.0 })), || ());
        let found = found.unwrap();
        assert!((165.0..=180.0).contains(&found.per_s) && !found.by_driver, "{found:?}");
    }

    #[test]
    fn the_driver_is_named_where_it_is_the_limit() {
        let busy = |rate: f64| Probe { driver: rate / 300.0, ..probe(rate, rate.min(300.0), 1.0) };
        assert!(search(|rate| Ok(busy(rate)), || ()).unwrap().by_driver);
        let dead = |rate| Ok(Probe { p99_ms: None, ..probe(rate, 0.0, 0.0) });
        assert!(search(dead, || ()).unwrap().per_s == 0.0);
    }
}
