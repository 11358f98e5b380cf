//! Who is wanted how often: Zipf's law over guests in an order of chance.

use crate::random::Random;

/// Guests by how often they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// The part of all requests that is for the first ranks, by their number less one.
    cumulative: Vec<f64>,
    /// The guest of each rank.
    guests: Vec<u32>,
}

impl Zipf {
    /// So many guests, which is not 0, the one of rank r wanted in proportion to 1/r^`alpha`; 0 = all alike. Which guest has
    /// which rank is by chance.
    pub(crate) fn new(count: u32, alpha: f64, random: &mut Random) -> Self {
        let mut sum = 0.0;
        let weights = (1..=count).map(|rank| f64::from(rank).powf(-alpha));
        let mut cumulative: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|part| *part /= sum);
        let mut guests: Vec<u32> = (0..count).collect();
        for place in (1..guests.len()).rev() {
            guests.swap(place, random.below(place + 1));
        }
        Self { cumulative, guests }
    }

    /// The guest that the next request is for.
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        let part = random.part();
        let rank = self.cumulative.partition_point(|&up_to| up_to <= part);
        self.guests[rank.min(self.guests.len() - 1)]
    }

    /// The part of all requests that is for the most wanted guests, so many of them.
    pub(crate) fn part_of_first(&self, count: u32) -> f64 {
        let last = (count as usize).min(self.cumulative.len());
        last.checked_sub(1).map_or(0.0, |last| self.cumulative[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(alpha: f64) -> Vec<usize> {
        let mut random = Random::of(7);
        let zipf = Zipf::new(100, alpha, &mut random);
        let mut counts = vec![0; 100];
        (0..100_000).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
        counts.sort_unstable_by(|one, other| other.cmp(one));
        counts
    }

    #[test]
    fn guests_are_wanted_by_rank() {
        let counts = counts(1.0);
        // The harmonic number of 100 is 5.19.
        let part = |rank: usize| counts[rank - 1] as f64 * 5.187 * rank as f64 / 100_000.0;
        assert!([1, 2, 5, 10].iter().all(|&rank| (part(rank) - 1.0).abs() < 0.1), "{counts:?}");
        let zipf = Zipf::new(100, 1.0, &mut Random::of(7));
        assert!((zipf.part_of_first(2) - 1.5 / 5.187).abs() < 1e-3);
        assert_eq!((zipf.part_of_first(0), zipf.part_of_first(200)), (0.0, 1.0));
    }

    #[test]
    fn without_an_exponent_all_are_wanted_alike() {
        let counts = counts(0.0);
        assert!(counts[0] < 1200 && counts[99] > 800, "{counts:?}");
    }

    #[test]
    fn ranks_are_by_chance() {
        let order = |seed| Zipf::new(50, 1.0, &mut Random::of(seed)).guests;
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..50).collect::<Vec<_>>());
    }
}
