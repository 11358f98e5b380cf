//! What is compared: guests as they are by default, and with one of the two ideas taken away.

/// A way in which all guests of a measurement are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Batching and idling, as by default.
    Usual,
    /// One interrupt, and one upcall, for each event.
    Unbatched,
    /// As by default, but few requests are out at a time, so that most guests idle.
    Sparse,
    /// The same, and a guest that has nothing to do waits busily.
    Busy,
}

/// Requests that are out at a time where most guests idle.
pub(super) const FEW: usize = 8;

impl Variant {
    /// All of them, the usual one first.
    pub(super) const ALL: [Self; 4] = [Self::Usual, Self::Unbatched, Self::Sparse, Self::Busy];

    /// What guests of this variant are configured with.
    pub(super) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Usual | Self::Sparse => &[],
            Self::Unbatched => &["interrupts.window=0"],
            Self::Busy => &["idle.sleep=false"],
        }
    }

    /// Most requests that are out at a time.
    pub(super) fn most_requests(self) -> usize {
        match self {
            Self::Usual | Self::Unbatched => usize::MAX,
            Self::Sparse | Self::Busy => FEW,
        }
    }

    /// What the names of its figures have in them.
    pub(super) fn infix(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Unbatched => "_unbatched",
            Self::Sparse => "_sparse",
            Self::Busy => "_busy",
        }
    }

    /// What people read.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Usual => "as by default",
            Self::Unbatched => "without batching",
            Self::Sparse => "most idle",
            Self::Busy => "most idle, without idling",
        }
    }
}
