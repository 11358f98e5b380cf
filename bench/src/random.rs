//! Numbers by chance, and orders.

use std::hash::{BuildHasher, RandomState};

/// A generator: xorshift, good enough to be nobody's favourite order.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }

    /// The same numbers for the same seed, which is not 0.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number from 0 up to, not including, 1.
    pub(crate) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The time until the next of events that come independently of each other, `rate` of them a second on
    /// average, in seconds.
    pub(crate) fn gap(&mut self, rate: f64) -> f64 {
        -(1.0 - self.part()).ln() / rate
    }
}

/// Numbers in an order of chance, each once before any comes again.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    order: Vec<usize>,
    at: usize,
    random: Random,
}

impl Turns {
    /// Of the numbers below `count`, which is not 0.
    pub(crate) fn new(count: usize) -> Self {
        Self { order: (0..count).collect(), at: 0, random: Random::new() }
    }

    pub(crate) fn next(&mut self) -> usize {
        if self.at == 0 {
            for place in (1..self.order.len()).rev() {
                self.order.swap(place, self.random.below(place + 1));
            }
        }
        let number = self.order[self.at];
        self.at = (self.at + 1) % self.order.len();
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        let mut turns = Turns::new(20);
        for _ in 0..3 {
            let mut round: Vec<usize> = (0..20).map(|_| turns.next()).collect();
            round.sort_unstable();
            assert_eq!(round, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn gaps_are_as_long_as_the_rate_says_on_average() {
        let mut random = Random::new();
        let gaps: Vec<f64> = (0..20_000).map(|_| random.gap(50.0)).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.02).abs() < 0.002, "{mean}");
        assert!(gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0));
    }
}
