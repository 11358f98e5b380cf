//! Latencies: what share of them is how long.

/// Shares that figures are named after, in thousandths.
pub(super) const SHARES: [(usize, &str); 3] = [(500, "p50"), (990, "p99"), (999, "p999")];

/// Latencies in µs.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<f64>);

impl Latencies {
    /// Adds one.
    pub(super) fn push(&mut self, microseconds: f64) {
        self.0.push(microseconds);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, the shortest first.
    pub(super) fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The one that so many thousandths do not exceed, by the nearest rank; `None` if there are none.
    pub(super) fn percentile(&self, thousandths: usize) -> Option<f64> {
        let sorted = self.sorted();
        let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(500), None);
        for number in (1..=1000).rev() {
            latencies.push(f64::from(number));
        }
        let of = |share| latencies.percentile(share);
        assert_eq!([of(0), of(500), of(990), of(999)], [1.0, 500.0, 990.0, 999.0].map(Some));
        assert_eq!((of(1000), latencies.len()), (Some(1000.0), 1000));
    }
}
