//! What a pager has done.

/// What a pager has done so far, in pages, and how many pages are in memory now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages that somebody waited for, and that were brought in.
    pub faults: u64,
    /// Of these: read from the store.
    pub from_store: u64,
    /// Pages brought in with others that somebody waited for.
    pub read_ahead: u64,
    /// Pages brought in although nobody waited.
    pub completed: u64,
    /// Times somebody waited for a page that was staged.
    pub soft_faults: u64,
    /// Pages staged.
    pub staged: u64,
    /// Times a page could not be staged, because input or output was under way in it.
    pub unmovable: u64,
    /// Pages that left memory.
    pub evicted: u64,
    /// Of these: written to the store. The others come back without it.
    pub written: u64,
    /// Of those that left: in the working set. Where there are many, the limit is below it.
    pub evicted_in_use: u64,
    /// Times memory was above the limit because no page could be moved.
    pub over_limit: u64,
    /// Pages in memory now that count towards the limit; 0 without a limit.
    pub resident: u64,
}

impl Counters {
    /// By name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("pager_faults", self.faults),
            ("pager_from_store", self.from_store),
            ("pager_read_ahead", self.read_ahead),
            ("pager_completed", self.completed),
            ("pager_soft_faults", self.soft_faults),
            ("pager_staged", self.staged),
            ("pager_unmovable", self.unmovable),
            ("pager_evicted", self.evicted),
            ("pager_written", self.written),
            ("pager_evicted_in_use", self.evicted_in_use),
            ("pager_over_limit", self.over_limit),
            ("pager_resident", self.resident),
        ]
    }
}
