//! Read-ahead: who touches pages in ascending order is brought more of them at a time.

use denali_swap::PageNumber;

/// Ascending runs that are followed at a time: one that is read, one that is written, and what comes between.
const STREAMS: usize = 4;

/// A fault so few pages past the expected one continues a run.
const GAP: u32 = 4;

/// A run of faults in ascending order.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The page whose fault would continue it.
    next: u32,
    /// How many pages were brought ahead last.
    window: u32,
}

/// Follows the last few ascending runs.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: [Stream; STREAMS],
    oldest: usize,
}

impl Streams {
    /// The guest touched a missing page: how many behind it to bring ahead, at most `most`. None for a page
    /// that continues no run; then twice as many each time.
    pub(crate) fn fault(&mut self, page: PageNumber, most: usize) -> usize {
        let continued = |stream: &&mut Stream| {
            page.0.checked_sub(stream.next).is_some_and(|gap| gap < GAP) && stream.next > 0
        };
        if let Some(stream) = self.streams.iter_mut().find(continued) {
            stream.window = (stream.window * 2).max(1).min(most as u32);
            stream.next = page.0.saturating_add(1 + stream.window);
            return stream.window as usize;
        }
        self.streams[self.oldest] = Stream { next: page.0.saturating_add(1), window: 0 };
        self.oldest = (self.oldest + 1) % STREAMS;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The windows of faults in ascending order, each at the first page that was not brought.
    fn windows(streams: &mut Streams, start: u32, count: usize) -> Vec<usize> {
        let mut page = start;
        let fault = |_| {
            let window = streams.fault(PageNumber(page), 64);
            page += 1 + window as u32;
            window
        };
        (0..count).map(fault).collect()
    }

    #[test]
    fn ascending_faults_double_what_comes_ahead() {
        assert_eq!(windows(&mut Streams::default(), 100, 9), [0, 1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn two_runs_at_a_time_are_both_followed() {
        let mut streams = Streams::default();
        let (mut a, mut b) = (1_000, 9_000);
        let mut windows = Vec::new();
        for _ in 0..4 {
            for page in [&mut a, &mut b] {
                let window = streams.fault(PageNumber(*page), 64);
                *page += 1 + window as u32;
                windows.push(window);
            }
        }
        assert_eq!(windows, [0, 0, 1, 1, 2, 2, 4, 4]);
    }

    #[test]
    fn scattered_faults_bring_nothing_ahead() {
        let mut streams = Streams::default();
        for page in [5, 900, 17, 44, 3, 2, 1, 0, 700, u32::MAX - 1] {
            assert_eq!(streams.fault(PageNumber(page), 64), 0, "{page}");
        }
    }

    #[test]
    fn a_small_limit_bounds_what_comes_ahead() {
        let mut streams = Streams::default();
        let windows: Vec<_> = [10, 11, 13, 16, 21]
            .into_iter()
            .map(|page| streams.fault(PageNumber(page), 3))
            .collect();
        assert_eq!(windows, [0, 1, 2, 3, 3]);
    }
}
