//! What can go wrong: before a pager runs, and while it does.

use crate::wsclock::WsClock;
use denali_swap::PageNumber;
use std::fmt;
use std::io;

/// The fewest pages a guest can be limited to.
const LEAST: usize = WsClock::LEAST;

/// Why there is no pager.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This kernel cannot take pages from a guest.
    #[error(
        "paging needs UFFDIO_MOVE, which this kernel does not have: use Linux 6.8 or later, or set no \
         \"resident_limit\""
    )]
    NoMove,
    /// The limit cannot be worked with.
    #[error("{0} pages are too few to run in: set \"resident_limit\" to more than {LEAST} pages")]
    Limit(usize),
    /// The ranges are not sorted, not apart, or not in the guest's memory.
    #[error("the ranges of missing pages are not sorted, or not in the guest's memory")]
    Ranges,
    /// A guest with a limit brings back by faults alone.
    #[error("a guest with a limit has no prefetched pages")]
    Prefetched,
    /// The host refuses.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host says.
        source: io::Error,
    },
}

impl StartError {
    /// For what was tried.
    pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}

/// Why a guest cannot go on: a page of its memory cannot be had, or has nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The page, where it is about one.
    pub page: Option<PageNumber>,
    /// In plain words.
    pub why: String,
}

impl Failure {
    /// For a page.
    pub(crate) fn of<E: fmt::Display>(
        page: PageNumber,
        what: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self { page: Some(page), why: format!("{what}: {error}") }
    }

    /// For no page in particular.
    pub(crate) fn new<E: fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self { page: None, why: format!("{what}: {error}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.page {
            Some(page) => write!(f, "the guest's page at {page}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}
