//! Histograms with a bucket for each power of two: fixed size, no allocation, cheap to fill.

/// How often which values occurred, by their magnitude.
///
/// Bucket 0 counts zeros; bucket `n` counts values from 2^(n-1) up to, not including, 2^n. The last
/// bucket also counts everything above. A histogram takes 8 bytes for each bucket and 8 more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<const BUCKETS: usize> {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(BUCKETS >= 1 && BUCKETS <= 65) };
        Self { counts: [0; BUCKETS], sum: 0 }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        let count = &mut self.counts[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(1);
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Sum of all values, exact up to `u64::MAX`.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bucket's largest value and its count, from the smallest values on. The last bucket's largest
    /// value is `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts.iter().enumerate().map(|(bucket, &count)| (Self::last_of(bucket), count))
    }

    /// An estimate of the value that `percent` % of the values do not exceed (nearest rank; values are
    /// taken to lie evenly within their bucket, so that it errs by less than a factor of two below the last
    /// bucket, and is that bucket's smallest value within it). `None` without values.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let total = self.count();
        let rank = (total as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as u64;
        let rank = rank.clamp(1, total.max(1));
        let mut below = 0_u64;
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count > 0 && rank <= below.saturating_add(count) {
                return Some(Self::within(bucket, rank - below, count));
            }
            below = below.saturating_add(count);
        }
        None
    }

    /// The value of the `place`th of `count` values that lie evenly in a bucket.
    fn within(bucket: usize, place: u64, count: u64) -> u64 {
        let first = Self::first_of(bucket);
        if bucket == BUCKETS - 1 {
            return first;
        }
        let width = u128::from(Self::last_of(bucket) - first);
        first + (width * u128::from(place) / u128::from(count)) as u64
    }

    fn first_of(bucket: usize) -> u64 {
        if bucket == 0 { 0 } else { 1 << (bucket - 1) }
    }

    fn last_of(bucket: usize) -> u64 {
        if bucket == BUCKETS - 1 { u64::MAX } else { (1 << bucket) - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_magnitude() {
        let mut histogram = Histogram::<4>::new();
        for value in [0, 1, 2, 3, 4, 1_000] {
            histogram.record(value);
        }
        let expected = [(0, 1), (1, 1), (3, 2), (u64::MAX, 2)];
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), expected);
        assert_eq!((histogram.count(), histogram.sum()), (6, 1_010));
    }

    #[test]
    fn the_greatest_value_has_a_bucket() {
        let mut histogram = Histogram::<65>::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.buckets().last(), Some((u64::MAX, 1)));
        assert_eq!(histogram.percentile(50.0), Some(1 << 63));
    }

    #[test]
    fn percentiles_are_by_rank() {
        let mut histogram = Histogram::<32>::new();
        assert_eq!(histogram.percentile(50.0), None);
        (0..99).for_each(|_| histogram.record(1));
        histogram.record(1 << 20);
        assert_eq!(histogram.percentile(99.0), Some(1));
        assert!(histogram.percentile(99.9).unwrap() >= 1 << 20);
    }
}
