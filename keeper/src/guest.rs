//! What a keeper knows of a guest.

use crate::clock;
use crate::event::Reason;
use crate::registry::{Life, Record, Registry};
use crate::sources::Unread;
use denali_control::Parked;
use denali_launcher::{Kept, Monitor};
use denali_swap::{Commit, hex};

/// Most times in a row that a guest is given a monitor that ends before the guest runs.
pub(crate) const TRIES_MAX: u8 = 3;

/// How long before its timer goes off a guest gets a monitor, in ns.
const HEAD_START_NS: u64 = 10_000_000;

/// A guest. While it is parked this is all there is of it in memory: less than a page, with what it keeps.
pub(crate) struct Guest {
    pub(crate) kept: Kept,
    pub(crate) state: State,
    /// The last state in its region that is known to be whole.
    pub(crate) commit: Option<Commit>,
    /// When its timer goes off, by the host's boot time in ns.
    pub(crate) deadline_ns: Option<u64>,
    /// Pages in its region.
    pub(crate) pages: u64,
    /// Monitors in a row that ended before it ran.
    pub(crate) tries: u8,
    /// Times in a row that the host lacked something for a monitor.
    pub(crate) pauses: u8,
    /// Why it gets a monitor as soon as it can be.
    pub(crate) postponed: Option<Reason>,
    /// Times that it was given a monitor.
    pub(crate) lives: u32,
    /// Sources that had something, or had hung up, when the guest was parked.
    pub(crate) unread: Vec<Unread>,
}

/// What a guest does.
pub(crate) enum State {
    /// It has no monitor, and gets one when something is for it.
    Waits,
    /// It has a monitor.
    Lives(Box<Living>),
    /// It will not go on.
    Ended,
}

/// A guest that has a monitor.
pub(crate) struct Living {
    pub(crate) monitor: Monitor,
    pub(crate) phase: Phase,
    /// Why it got one, and when that was found, in ns of the boot time.
    pub(crate) reason: Reason,
    pub(crate) since_ns: u64,
    /// What its monitor said when it parked it.
    pub(crate) parked: Option<Parked>,
    /// It is to be parked as soon as it runs.
    pub(crate) to_park: bool,
}

/// How far a guest with a monitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its monitor makes it ready; it has not run.
    Waking,
    /// It runs, or idles.
    Running,
    /// It is being written into its region.
    Parking,
}

impl Guest {
    /// A guest without a monitor.
    pub(crate) fn new(kept: Kept) -> Self {
        Self {
            kept,
            state: State::Waits,
            commit: None,
            deadline_ns: None,
            pages: 0,
            tries: 0,
            pauses: 0,
            postponed: None,
            lives: 0,
            unread: Vec::new(),
        }
    }

    /// Whether it has this name, and has not ended.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        !matches!(self.state, State::Ended) && self.kept.name() == name
    }

    /// Whether it has no monitor and waits for what is for it.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, State::Waits)
    }

    /// When it is to be given a monitor, in ns of the boot time: so that it is there when its timer goes off.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        self.deadline_ns.map(|deadline| deadline.saturating_sub(HEAD_START_NS))
    }

    /// Whether that is now because of its timer.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.tries == 0 && self.wakes_at().is_some_and(|at| at <= now_ns)
    }

    /// Its monitor, if it has one.
    pub(crate) fn living(&mut self) -> Option<&mut Living> {
        match &mut self.state {
            State::Lives(living) => Some(living),
            _ => None,
        }
    }

    /// Remembers what its monitor said when it parked it; false if that cannot be.
    pub(crate) fn is_parked_as(&mut self, parked: &Parked) -> bool {
        let Some(commit) = commit_of(parked, self.commit) else { return false };
        self.commit = Some(commit);
        self.deadline_ns = parked.deadline_ns;
        self.pages = parked.pages;
        true
    }

    /// What whoever is to wake it elsewhere must know; `None` if it was never parked.
    pub(crate) fn parked(&self) -> Option<Parked> {
        let (Some(id), Some(Commit { sequence, root })) = (self.kept.id(), self.commit) else {
            return None;
        };
        Some(Parked {
            guest_id: id.to_string(),
            sequence,
            root: hex::encode(&root),
            deadline_ns: self.deadline_ns,
            deadline_real_ns: self.deadline_ns.map(clock::real_of_boot),
            pages: self.pages,
        })
    }

    /// Whether a keeper that starts anew would know its state: `registry` has it, or there is none.
    pub(crate) fn is_remembered(&self, registry: Option<&Registry>) -> bool {
        match (registry, self.kept.id(), self.commit) {
            (Some(registry), Some(id), Some(_)) => registry.has_written(id),
            _ => true,
        }
    }

    /// What is to be remembered of it on disk; `None` if it has no region.
    pub(crate) fn record(&self) -> Option<Record> {
        let life = match &self.state {
            State::Waits if self.commit.is_some() => Life::Parked {
                deadline_real_ns: self.deadline_ns.map(clock::real_of_boot),
                pages: self.pages,
            },
            _ => Life::Running {},
        };
        Some(Record {
            id: self.kept.id()?,
            name: self.kept.name().into(),
            image: self.kept.image_hash().into(),
            configuration: self.kept.configuration().into(),
            commit: self.commit,
            life,
        })
    }
}

/// The state that a monitor says it has written; `None` if that cannot be after the one that is `known`.
pub(crate) fn commit_of(parked: &Parked, known: Option<Commit>) -> Option<Commit> {
    let root = hex::decode(&parked.root)?;
    let newer = parked.sequence > known.map_or(0, |commit| commit.sequence);
    newer.then_some(Commit { sequence: parked.sequence, root })
}
