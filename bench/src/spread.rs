//! How often which values occurred: classes a sixty-fourth of an octave wide, of fixed number, so that millions of
//! latencies take no more memory than one.

/// Classes in one octave; also the number of exact classes below.
const PER_OCTAVE: u64 = 64;

/// Numbers, each known to 1.6 % at worst.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { counts: vec![0; class_of(u64::MAX) + 1], count: 0, sum: 0, max: 0 }
    }
}

impl Spread {
    /// Counts a value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[class_of(value)] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The greatest value; 0 if there is none.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Their mean; `None` if there is none.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The value that so many thousandths do not exceed, by the nearest rank and rounded up to the end of its class; `None`
    /// if there is none.
    pub(crate) fn percentile(&self, thousandths: u64) -> Option<u64> {
        let rank = (self.count * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let class = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(end_of(class).min(self.max))
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

fn class_of(value: u64) -> usize {
    if value < PER_OCTAVE {
        return value as usize;
    }
    // As many octaves above the exact ones as the value has bits more, and the bits behind its first.
    let octave = u64::from(value.ilog2() - PER_OCTAVE.ilog2());
    (octave * PER_OCTAVE + (value >> octave)) as usize
}

/// The greatest value of a class.
fn end_of(class: usize) -> u64 {
    let class = class as u64;
    if class < 2 * PER_OCTAVE {
        return class;
    }
    let octave = class / PER_OCTAVE - 1;
    let first = u128::from(class - octave * PER_OCTAVE) << octave;
    u64::try_from(first + (1 << octave) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_each_other_and_are_narrow() {
        for value in (0..5000).chain([1 << 40, u64::MAX - 1, u64::MAX]) {
            let (class, end) = (class_of(value), end_of(class_of(value)));
            assert!(end >= value && end - value <= value / PER_OCTAVE, "{value}: {end}");
            assert_eq!(class_of(end), class);
            assert!(end == u64::MAX || class_of(end + 1) == class + 1);
        }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut spread = Spread::default();
        assert_eq!((spread.percentile(500), spread.mean(), spread.max()), (None, None, 0));
        (1..=100_u64).for_each(|value| spread.record(value * 1000));
        let near = |thousandths, value: u64| {
            let found = spread.percentile(thousandths).unwrap();
            assert!(found >= value && found <= value + value / 64, "{thousandths}: {found}");
        };
        near(500, 50_000);
        near(990, 99_000);
        assert_eq!((spread.percentile(1000), spread.mean()), (Some(100_000), Some(50_500.0)));
        let mut both = Spread::default();
        both.record(7);
        both.merge(&spread);
        assert_eq!((both.count(), both.percentile(1), both.max()), (101, Some(7), 100_000));
    }
}
