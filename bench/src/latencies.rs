//! Latencies: what share of them is how long.

/// Shares that figures are named after, in thousandths.
pub(crate) const SHARES: [(usize, &str); 3] = [(500, "p50"), (990, "p99"), (999, "p999")];

/// Points of the line that shows them.
const POINTS: u32 = 24;

/// Latencies, all in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Adds one.
    pub(crate) fn push(&mut self, latency: f64) {
        self.0.push(latency);
    }

    /// Adds others.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, the shortest first.
    pub(crate) fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The one that so many thousandths do not exceed, by the nearest rank; `None` if there are none.
    pub(crate) fn percentile(&self, thousandths: usize) -> Option<f64> {
        let sorted = self.sorted();
        let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied()
    }

    /// Pairs of a latency and the part of all that exceeds it, evenly on a logarithmic axis of parts.
    pub(crate) fn exceeding(&self) -> Vec<(f64, f64)> {
        let sorted = self.sorted();
        let count = sorted.len() as f64;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for number in 0..POINTS {
            let part = count.powf(-f64::from(number) / f64::from(POINTS - 1));
            // So many are longer, one at least, except that of the whole the shortest is shown.
            let longer = ((part * count).round() as usize).clamp(1, sorted.len().max(2) - 1);
            let place = sorted.len().wrapping_sub(longer + 1);
            let Some(&latency) = sorted.get(place) else { continue };
            let point = (latency, longer as f64 / count);
            if points.last() != Some(&point) {
                points.push(point);
            }
        }
        points
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

    #[test]
    fn parts_fall_as_latencies_rise() {
        let of = |count| Latencies((1..=count).map(f64::from).collect());
        let points = of(1000).exceeding();
        assert_eq!((points[0], points[points.len() - 1]), ((1.0, 0.999), (999.0, 0.001)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1));
        for (latency, part) in points {
            assert_eq!((1000.0 - latency) / 1000.0, part);
        }
        assert!(of(0).exceeding().is_empty() && of(1).exceeding().is_empty());
    }
}
