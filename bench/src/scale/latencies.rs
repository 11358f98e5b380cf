//! Latencies of many requests, exact to 3 %, in little memory.

/// Buckets for each power of two.
const PARTS: u64 = 32;
const PARTS_BITS: u32 = PARTS.trailing_zeros();

/// How many requests took how long.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Latencies {
    /// Counts one request that took so many ns.
    pub(super) fn push(&mut self, ns: u64) {
        let bucket = bucket(ns);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Number of requests.
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// Milliseconds that `percent` % of the requests do not exceed; `None` without requests.
    pub(super) fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let rank = ((self.total as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        found.map(|bucket| middle_ns(bucket) / 1e6)
    }
}

/// Values below 32 have a bucket each; above, the first six binary digits count.
fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(PARTS_BITS + 1);
    (u64::from(shift) * PARTS + (ns >> shift)) as usize
}

fn middle_ns(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / PARTS).saturating_sub(1);
    let first = (bucket - shift * PARTS) << shift;
    first as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_exact_to_three_percent() {
        for power in 0..60 {
            for ns in [1 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1] {
                let shown = middle_ns(bucket(ns));
                assert!((shown - ns as f64).abs() <= ns as f64 * 0.03, "{ns} {shown}");
            }
        }
    }

    #[test]
    fn percentiles_are_by_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile_ms(50.0), None);
        (0..990).for_each(|_| latencies.push(1_000_000));
        (0..10).for_each(|_| latencies.push(80_000_000));
        let shown = |percent| latencies.percentile_ms(percent).unwrap();
        assert!((shown(50.0) - 1.0).abs() < 0.03);
        assert!((shown(99.0) - 1.0).abs() < 0.03);
        assert!((shown(99.9) - 80.0).abs() < 2.4);
        assert_eq!(latencies.count(), 1000);
    }
}
