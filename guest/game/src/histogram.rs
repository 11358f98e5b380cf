//! How often which durations occurred: classes an eighth of an octave wide, of fixed number.

use crate::bytes::{Reader, Writer};
use alloc::vec::Vec;

/// Classes in one octave; also the number of exact classes below.
const PER_OCTAVE: u64 = 8;
/// Classes in all: the last begins at 15 × 2^20 µs, some 16 s.
const CLASSES: usize = 176;

/// Durations in µs, each known to an eighth at worst; longer ones than 16 s count as that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; CLASSES],
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; CLASSES], max: 0 }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, us: u64) {
        let count = &mut self.counts[class_of(us)];
        *count = count.saturating_add(1);
        self.max = self.max.max(us);
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// The longest duration in µs. In a difference ([`Histogram::since`]): the end of the last class
    /// that has any.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The duration that a share of `per_mille`/1000 of all do not exceed, in µs, rounded up to the end
    /// of its class; 0 if none was counted.
    #[must_use]
    pub fn percentile(&self, per_mille: u32) -> u64 {
        let rank = (self.count() * u64::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0;
        for (class, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return end_of(class).min(self.max);
            }
        }
        0
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*other);
        }
        self.max = self.max.max(other.max);
    }

    /// What was counted after `earlier`, a copy of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = Self::default();
        for (class, count) in since.counts.iter_mut().enumerate() {
            *count = self.counts[class].saturating_sub(earlier.counts[class]);
        }
        let last = since.counts.iter().rposition(|&count| count > 0);
        since.max = last.map_or(0, |class| end_of(class).min(self.max));
        since
    }

    /// Appends the classes that have any, each as number and count, as far as `limit` bytes go.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, limit: usize) {
        out.u64(self.max);
        for (class, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if out.len() + 5 > limit {
                return;
            }
            out.u8(class as u8);
            out.u32(count);
        }
    }

    /// Reads what [`Histogram::encode`] wrote, to the end.
    pub(crate) fn decode(mut reader: Reader<'_>) -> Option<Self> {
        let mut histogram = Self { max: reader.u64()?, ..Self::default() };
        while reader.end().is_none() {
            let class = usize::from(reader.u8()?);
            *histogram.counts.get_mut(class)? = reader.u32()?;
        }
        Some(histogram)
    }
}

/// The class of a duration: exact below 8 µs, then eight classes for each octave.
fn class_of(us: u64) -> usize {
    if us < PER_OCTAVE {
        return us as usize;
    }
    let octave = u64::from(us.ilog2()) - 3;
    let part = (us >> octave) - PER_OCTAVE;
    ((octave + 1) * PER_OCTAVE + part).min(CLASSES as u64 - 1) as usize
}

/// The longest duration of a class.
fn end_of(class: usize) -> u64 {
    let class = class as u64;
    if class < PER_OCTAVE {
        return class;
    }
    if class == CLASSES as u64 - 1 {
        return u64::MAX;
    }
    let (octave, part) = (class / PER_OCTAVE - 1, class % PER_OCTAVE);
    ((PER_OCTAVE + part + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_known_durations() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(500), histogram.max()), (0, 0));
        (0..100).for_each(|us| histogram.record(us));
        assert_eq!((histogram.count(), histogram.max()), (100, 99));
        assert_eq!(histogram.percentile(50), 4);
        assert_eq!(histogram.percentile(500), 51, "49 lies in 48..=51");
        assert_eq!(histogram.percentile(1000), 99);
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile(1000), u64::MAX);
    }

    #[test]
    fn a_difference_has_what_came_later() {
        let mut histogram = Histogram::default();
        histogram.record(5_000);
        let earlier = histogram.clone();
        (0..10).for_each(|_| histogram.record(100));
        let since = histogram.since(&earlier);
        assert_eq!((since.count(), since.percentile(990), since.max()), (10, 103, 103));
        let mut both = earlier;
        both.merge(&since);
        assert_eq!(both, histogram);
    }

    proptest! {
        #[test]
        fn a_duration_lies_in_its_class(us: u64) {
            let class = class_of(us);
            prop_assert!(us <= end_of(class));
            prop_assert!(class == 0 || us > end_of(class - 1));
            prop_assert!(us >= 15 << 20 || end_of(class) - us <= us / 8);
        }

        #[test]
        fn what_is_written_is_read(durations in prop::collection::vec(0_u64..1 << 30, 0..100)) {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|&us| histogram.record(us));
            let mut bytes = Vec::new();
            histogram.encode(&mut bytes, 1200);
            prop_assert_eq!(Histogram::decode(Reader::new(&bytes)), Some(histogram));
        }
    }
}
