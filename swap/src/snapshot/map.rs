//! The map of a snapshot: which pages of the guest are in it.

use super::error::SnapshotError;
use crate::region::{PAGE, PageNumber};
use denali_abi::layout::RAM_START;

/// The first page of a guest's memory.
pub(super) const FIRST_PAGE: u32 = (RAM_START / PAGE as u64) as u32;

/// Pages that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: PageNumber,
    /// How many there are: at least one.
    pub count: u32,
}

impl Run {
    /// The pages.
    pub fn pages(self) -> impl Iterator<Item = PageNumber> {
        (self.first.0..self.first.0 + self.count).map(PageNumber)
    }
}

/// Adds a run behind the others, or to the last of them.
pub(super) fn append(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.first.0 + last.count == run.first.0 => last.count += run.count,
        _ => runs.push(run),
    }
}

pub(super) fn encode(runs: &[Run]) -> Vec<u8> {
    let pages: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    let mut bytes = pages.to_le_bytes().to_vec();
    for run in runs {
        bytes.extend(run.first.0.to_le_bytes());
        bytes.extend(run.count.to_le_bytes());
    }
    bytes
}

/// The runs of a guest with `pages` pages: ascending, apart from each other, inside its memory.
pub(super) fn decode(bytes: &[u8], pages: u32) -> Result<Vec<Run>, SnapshotError> {
    const WRONG: SnapshotError = SnapshotError::Malformed("map");
    let (total, rest) = bytes.split_first_chunk().ok_or(WRONG)?;
    let (pairs, rest) = rest.as_chunks::<8>();
    let (mut runs, mut free, mut counted) = (Vec::new(), FIRST_PAGE, 0);
    for pair in pairs {
        let numbers = u64::from_le_bytes(*pair);
        let run = Run { first: PageNumber(numbers as u32), count: (numbers >> 32) as u32 };
        let end = run.first.0.checked_add(run.count).ok_or(WRONG)?;
        if run.count == 0 || run.first.0 < free || end > FIRST_PAGE + pages {
            return Err(WRONG);
        }
        // Runs that touch would be one.
        free = end + 1;
        counted += u64::from(run.count);
        runs.push(run);
    }
    let sound = rest.is_empty() && counted == u64::from_le_bytes(*total);
    if sound { Ok(runs) } else { Err(WRONG) }
}
