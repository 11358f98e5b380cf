//! What many runs of one measurement come to.

/// Measured values, one a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

/// Smallest, middle and ninetieth-percentile value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The smallest.
    pub(crate) min: f64,
    /// The median.
    pub(crate) median: f64,
    /// The value that nine in ten do not exceed.
    pub(crate) p90: f64,
}

impl Series {
    /// Adds the value of one run.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Number of runs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The median; `None` without runs.
    pub(crate) fn median(&self) -> Option<f64> {
        self.summary().map(|summary| summary.median)
    }

    /// The summary; `None` without runs.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (first, count) = (*sorted.first()?, sorted.len());
        // The nearest-rank percentile; of an even number, the median is the mean of the middle two.
        let rank = |percent: usize| sorted[(count * percent).div_ceil(100).max(1) - 1];
        let median = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        Some(Summary { min: first, median, p90: rank(90) })
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

/// The slope of the straight line that fits the points (x, y) best; `None` for fewer than two
/// different x.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - mean_x) * (point.1 - mean_y)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_by_rank() {
        let of = |values: &[f64]| values.iter().copied().collect::<Series>().summary();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(Summary { min: 3.0, median: 3.0, p90: 3.0 }));
        assert_eq!(of(&[4.0, 1.0]), Some(Summary { min: 1.0, median: 2.5, p90: 4.0 }));
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(of(&hundred), Some(Summary { min: 1.0, median: 50.5, p90: 90.0 }));
    }

    #[test]
    fn slopes_of_lines() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (3.0, 11.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 5.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
