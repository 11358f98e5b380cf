//! What is compared: guests as they are by default, and with one of the two ideas taken away.

/// A way in which all guests of a measurement are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Batching and idling, as by default.
    Usual,
    /// One interrupt, and one upcall, for each event.
    Unbatched,
    /// A guest that has nothing to do waits busily.
    Busy,
}

impl Variant {
    /// All of them, the usual one first.
    pub(super) const ALL: [Self; 3] = [Self::Usual, Self::Unbatched, Self::Busy];

    /// What guests of this variant are configured with.
    pub(super) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[],
            Self::Unbatched => &["interrupts.window=0"],
            Self::Busy => &["idle.sleep=false"],
        }
    }

    /// What the names of its figures have in them.
    pub(super) fn infix(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Unbatched => "_unbatched",
            Self::Busy => "_busy",
        }
    }

    /// What people read.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Usual => "as by default",
            Self::Unbatched => "without batching",
            Self::Busy => "without idling",
        }
    }
}
