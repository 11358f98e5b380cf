//! What a keeper knows of a guest.

use crate::clock;
use crate::event::Reason;
use crate::registry::{Life, Record, Registry};
use crate::sources::Unread;
use denali_client::Desired;
use denali_control::Parked;
use denali_launcher::{Kept, Monitor, Source};
use denali_swap::{Commit, GuestId, hex};
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;

/// Most times in a row that a guest is given a monitor that ends before the guest runs.
pub(crate) const TRIES_MAX: u8 = 3;

/// How long before its timer goes off a guest gets a monitor, in ns.
const HEAD_START_NS: u64 = 10_000_000;

/// A guest. While it is parked this is all there is of it in memory: less than a page, with what it keeps.
pub(crate) struct Guest {
    pub(crate) name: Box<str>,
    /// Its identity in the registry; its region's, if it has one.
    pub(crate) id: GuestId,
    /// What it needs is open or known; `None` = it is opened from the registry when it is needed.
    pub(crate) kept: Option<Box<Kept>>,
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
    /// What a supervisor knows beside.
    pub(crate) file: File,
}

/// What a supervisor knows of a guest beside.
#[derive(Clone)]
pub(crate) struct File {
    /// Whose it is.
    pub(crate) tenant: Rc<str>,
    /// What its configuration calls its image, or its template.
    pub(crate) image: Rc<str>,
    /// The snapshot that it is a copy of, until it is parked.
    pub(crate) template: Option<Rc<Path>>,
    pub(crate) desired: Desired,
    /// Its address on the switch.
    pub(crate) address: Option<Ipv4Addr>,
    /// Memory that it may use, in bytes.
    pub(crate) memory: u64,
    /// Times that it came back from its region, and that it was started anew.
    pub(crate) wakes: u32,
    pub(crate) restarts: u32,
    /// When its state changed, in ms since 1970-01-01 UTC.
    pub(crate) since_ms: u64,
    pub(crate) note: Option<Box<str>>,
    /// Ports to which a packet must go to wake it; none = any.
    pub(crate) wakes_on: Box<[u16]>,
    /// Ports of the host lead into it.
    pub(crate) publishes: bool,
    /// Something can come for it at what only it has: a listening socket, a tap, a client of its console.
    pub(crate) has_sources: bool,
}

impl Default for File {
    fn default() -> Self {
        Self {
            tenant: "default".into(),
            image: "".into(),
            template: None,
            desired: Desired::Running,
            address: None,
            memory: 0,
            wakes: 0,
            restarts: 0,
            since_ms: 0,
            note: None,
            wakes_on: Box::default(),
            publishes: false,
            has_sources: false,
        }
    }
}

/// What a guest does.
pub(crate) enum State {
    /// It has no monitor, and gets one when something is for it.
    Waits,
    /// It has a monitor.
    Lives(Box<Living>),
    /// It has no monitor, and gets one when somebody starts it.
    Stopped,
    /// It will not go on, unless somebody starts it anew.
    Ended,
    /// There is no guest of this number.
    Vacant,
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
    /// It was another keeper's, whose child the monitor is; its end is told of by its channel's.
    pub(crate) adopted: bool,
    /// It was asked to end, at this time of the boot in ns.
    pub(crate) stopping_ns: Option<u64>,
    /// How its monitor says that it ended.
    pub(crate) status: Option<u8>,
    /// It is parked, and comes back at once: its wire leads nowhere.
    pub(crate) to_return: bool,
    /// Something came for it when its monitor had let go of its wire: it comes back when it is parked.
    pub(crate) wanted: bool,
    /// Somebody asked for it to be parked, which is done as soon as it runs.
    pub(crate) park_soon: bool,
}

impl Living {
    /// A guest that has just been given this monitor.
    pub(crate) fn new(monitor: Monitor, reason: Reason, since_ns: u64) -> Self {
        Self {
            monitor,
            phase: Phase::Waking,
            reason,
            since_ns,
            parked: None,
            to_park: false,
            adopted: false,
            stopping_ns: None,
            status: None,
            to_return: false,
            wanted: false,
            park_soon: false,
        }
    }
}

impl State {
    /// The process of its monitor, if it has one.
    pub(crate) fn process(&self) -> Option<u32> {
        match self {
            Self::Lives(living) => Some(living.monitor.process),
            _ => None,
        }
    }
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
    pub(crate) fn new(name: &str, id: GuestId, kept: Option<Kept>) -> Self {
        Self {
            name: name.into(),
            id,
            kept: kept.map(Box::new),
            state: State::Waits,
            commit: None,
            deadline_ns: None,
            pages: 0,
            tries: 0,
            pauses: 0,
            postponed: None,
            lives: 0,
            unread: Vec::new(),
            file: File { since_ms: clock::real_ns() / 1_000_000, ..File::default() },
        }
    }

    /// No guest.
    pub(crate) fn vacant() -> Self {
        Self { state: State::Vacant, ..Self::new("", GuestId([0; 16]), None) }
    }

    /// Where what wakes it comes from, beside a switch.
    pub(crate) fn sources(&self) -> Vec<Source<'_>> {
        self.kept.as_ref().map(|kept| kept.sources()).unwrap_or_default()
    }

    /// Whether it can be parked. Only guests that have a region are ever without what they keep.
    pub(crate) fn has_region(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.id().is_some())
    }

    /// Whether it has this name, and has not ended.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        !matches!(self.state, State::Ended | State::Vacant) && *self.name == *name
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
        let Commit { sequence, root } = self.commit?;
        Some(Parked {
            guest_id: self.id.to_string(),
            sequence,
            root: hex::encode(&root),
            deadline_ns: self.deadline_ns,
            deadline_real_ns: self.deadline_ns.map(clock::real_of_boot),
            pages: self.pages,
        })
    }

    /// Whether a keeper that starts anew would know its state: `registry` has it, or there is none.
    pub(crate) fn is_remembered(&self, registry: Option<&Registry>) -> bool {
        match (registry, self.commit) {
            (Some(registry), Some(_)) => registry.has_written(self.id),
            _ => true,
        }
    }

    /// What is to be remembered of it on disk, as guest `number`; `interrupted`: its keeper had it parked to
    /// stop. `None` if nothing of it is known to be remembered.
    pub(crate) fn record(&self, number: u32, interrupted: bool) -> Option<Record> {
        let kept = self.kept.as_ref()?;
        Some(Record {
            id: self.id,
            name: self.name.to_string(),
            number,
            tenant: self.file.tenant.to_string(),
            template: self.file.template.as_ref().map(|path| path.display().to_string()),
            image: kept.image_hash().into(),
            configuration: kept.configuration().into(),
            commit: self.commit,
            life: self.life(interrupted),
            desired: self.file.desired,
            note: self.file.note.as_deref().map(str::to_owned),
        })
    }

    /// A record of it that was written before, brought up to date.
    pub(crate) fn update(&self, written: Record, interrupted: bool) -> Record {
        Record {
            commit: self.commit,
            life: self.life(interrupted),
            desired: self.file.desired,
            note: self.file.note.as_deref().map(str::to_owned),
            ..written
        }
    }

    fn life(&self, interrupted: bool) -> Life {
        match &self.state {
            State::Waits if self.commit.is_some() => Life::Parked {
                deadline_real_ns: self.deadline_ns.map(clock::real_of_boot),
                pages: self.pages,
                interrupted,
            },
            State::Waits if self.lives == 0 && self.file.desired == Desired::Parked => {
                Life::Waiting {}
            }
            State::Stopped => Life::Stopped {},
            State::Ended => Life::Failed {},
            _ => Life::Running {},
        }
    }
}

/// The state that a monitor says it has written; `None` if that cannot be after the one that is `known`.
pub(crate) fn commit_of(parked: &Parked, known: Option<Commit>) -> Option<Commit> {
    let root = hex::decode(&parked.root)?;
    let newer = parked.sequence > known.map_or(0, |commit| commit.sequence);
    newer.then_some(Commit { sequence: parked.sequence, root })
}
