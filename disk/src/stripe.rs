//! Where the bytes of a striped set are: RAID-0, unit after unit, file after file.

use std::ops::Range;

/// How a disk is spread over its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Number of files.
    pub(crate) files: usize,
    /// Bytes that stay together in one file.
    pub(crate) unit: u64,
}

/// A run of a disk's bytes that lies in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) file: usize,
    /// Where it is in that file.
    pub(crate) offset: u64,
    /// Which bytes of the request it is.
    pub(crate) bytes: Range<u64>,
}

impl Layout {
    /// A disk in one file.
    pub(crate) const ONE: Self = Self { files: 1, unit: u64::MAX };

    /// Bytes of a disk whose files have `size` bytes each, at least.
    pub(crate) fn capacity(self, size: u64) -> u64 {
        if self.files == 1 { size } else { size / self.unit * self.unit * self.files as u64 }
    }

    /// The runs of `length` bytes from `offset` on, in their order.
    pub(crate) fn runs(self, offset: u64, length: u64) -> impl Iterator<Item = Run> {
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < length).then(|| {
                let run = self.run(offset + at, length - at, at);
                at = run.bytes.end;
                run
            })
        })
    }

    fn run(self, position: u64, left: u64, at: u64) -> Run {
        let (unit, inside) = (position / self.unit, position % self.unit);
        let length = left.min(self.unit - inside);
        let files = self.files as u64;
        Run {
            file: (unit % files) as usize,
            offset: unit / files * self.unit + inside,
            bytes: at..at + length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_file_is_one_run() {
        let runs: Vec<_> = Layout::ONE.runs(1536, 1 << 40).collect();
        assert_eq!(runs, [Run { file: 0, offset: 1536, bytes: 0..1 << 40 }]);
        assert_eq!(Layout::ONE.capacity(12_288), 12_288);
        assert_eq!(Layout { files: 3, unit: 4096 }.capacity(10_000), 3 * 8192);
    }

    proptest! {
        /// Every byte has its place, the one that RAID-0 gives it, and no two have the same.
        #[test]
        fn bytes_are_dealt_out_in_turn(
            files in 1..5_usize,
            unit in (9..13_u32).prop_map(|bits| 1_u64 << bits),
            offset in (0..64_u64).prop_map(|sector| sector * 512),
            length in (1..64_u64).prop_map(|sectors| sectors * 512),
        ) {
            let layout = Layout { files, unit };
            let mut reached = 0;
            for run in layout.runs(offset, length) {
                prop_assert_eq!(run.bytes.start, reached);
                reached = run.bytes.end;
                let first = offset + run.bytes.start;
                let stripe = first / (unit * files as u64);
                prop_assert_eq!(run.file as u64, first / unit % files as u64);
                prop_assert_eq!(run.offset, stripe * unit + first % unit);
                prop_assert!(first % unit + (run.bytes.end - run.bytes.start) <= unit);
            }
            prop_assert_eq!(reached, length);
        }
    }
}
