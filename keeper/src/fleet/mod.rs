//! The fleet: what a keeper knows beside that looks after all guests of a host, for its supervisor.
//!
//! | file | its job |
//! |---|---|
//! | `start` | the keeper of a fleet begins: guests of the registry, monitors that are still there |
//! | `adopt` | monitors that another keeper left are taken over |
//! | `collect` | what no guest has any more is removed |
//! | `orders` | what is asked for, and by and by done |
//! | `create` | guests are made |
//! | `acts` | guests are started, stopped, parked, woken, removed |
//! | `ends` | what becomes of guests whose monitors have ended |
//! | `gate` | who is let into memory, and who leaves for whom |
//! | `network` | the switch, and guests' ports of it |
//! | `views` | guests and host, as they are shown |
//! | `disk` | room on the disks |

mod acts;
mod adopt;
mod collect;
mod create;
mod disk;
mod ends;
mod gate;
mod network;
mod orders;
mod start;
mod views;

use crate::clock;
use crate::event::Reason;
use crate::keeper::Keeper;
use crate::order::Orders;
pub(crate) use acts::Goal;
use acts::{Asker, Waiter};
use create::Template;
use denali_config::HostConfig;
use denali_scheduler::gatekeeper::Gatekeeper;
use denali_swap::GuestId;
use network::Network;
pub(crate) use network::SWITCH_SOCKET;
use orders::Work;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

/// Most wakes whose times are remembered.
const WAKES_REMEMBERED: usize = 1024;

/// What a keeper of a fleet is told beside.
#[derive(Clone, Debug)]
pub struct Supervision {
    /// The host, as it is configured.
    pub host: HostConfig,
    /// Folder for sockets, there already, and this user's alone.
    pub run: PathBuf,
    /// The program `denali-switch`.
    pub switch: PathBuf,
    /// Version of the program.
    pub version: String,
}

/// What a keeper knows of its fleet.
pub(crate) struct Fleet {
    pub(crate) told: Supervision,
    pub(crate) orders: Orders,
    /// Guests by name.
    pub(crate) names: HashMap<Box<str>, u32>,
    /// Numbers that no guest has, below the largest that one has.
    pub(crate) vacant: Vec<u32>,
    pub(crate) tenants: Vec<Tenant>,
    /// Their places by their names.
    pub(crate) tenant_numbers: HashMap<Rc<str>, u32>,
    pub(crate) templates: HashMap<PathBuf, Rc<Template>>,
    /// Requests that are being done.
    pub(crate) work: VecDeque<Work>,
    /// Those who are told that something is done when the registry has it, and of which guest.
    pub(crate) unsaid: VecDeque<(GuestId, Box<str>, Asker)>,
    /// Those who wait for something to become of a guest.
    pub(crate) waiters: HashMap<u32, Vec<Waiter>>,
    pub(crate) gate: Gatekeeper,
    /// Why guests that wait at the gate are wanted, and since when.
    pub(crate) wanted: HashMap<u32, (Reason, u64)>,
    /// What the gatekeeper decided last.
    pub(crate) decided: String,
    /// When the host's memory was looked at last, in ns of the boot time.
    pub(crate) sampled_ns: u64,
    pub(crate) memory: (u64, u64),
    pub(crate) network: Option<Network>,
    /// Guests that were parked, the last of them last: what the first ones keep open is closed.
    pub(crate) warm: VecDeque<u32>,
    pub(crate) totals: Totals,
    /// The times of the last wakes, in µs.
    pub(crate) wake_us: VecDeque<u32>,
    pub(crate) since_ms: u64,
    /// When a keeper that stops no longer waits for guests to be parked, in ns of the boot time.
    pub(crate) drain_ns: Option<u64>,
    /// Guests that are asked to end, to be insisted on if they do not.
    pub(crate) stopping: VecDeque<(u64, u32)>,
    /// When the switch is tried again, in ns of the boot time.
    pub(crate) switch_again_ns: Option<u64>,
}

/// Somebody whose guests are counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tenant {
    pub(crate) guests: u64,
}

/// What has happened since the keeper began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) wakes: u64,
    pub(crate) parks: u64,
    pub(crate) restarts: u64,
    /// Times that no monitor waited for a guest.
    pub(crate) missed: u64,
}

impl Fleet {
    /// The number of a tenant.
    pub(crate) fn tenant(&mut self, name: &str) -> u32 {
        if let Some(known) = self.tenant_numbers.get(name) {
            return *known;
        }
        let number = self.tenants.len() as u32;
        self.tenants.push(Tenant::default());
        self.tenant_numbers.insert(name.into(), number);
        if let Some(quota) = self.told.host.tenants.get(name) {
            self.gate.set_quota(number, gate::quota(quota));
        }
        number
    }

    /// A guest has come back.
    pub(crate) fn woken(&mut self, micros: u64) {
        self.totals.wakes += 1;
        if self.wake_us.len() == WAKES_REMEMBERED {
            self.wake_us.pop_front();
        }
        self.wake_us.push_back(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    /// When something is to be done although nothing happens, in ns of the boot time.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let gate = match self.work_waits_for_room() {
            true => None,
            false => self.gate.next_ns(),
        };
        let stopping = self.stopping.front().map(|(at, _)| *at);
        let drain = self.drain_ns;
        [gate, stopping, drain, self.switch_again_ns].into_iter().flatten().min()
    }

    /// Whether there is something to do without waiting.
    pub(crate) fn is_busy(&self) -> bool {
        !self.work.is_empty()
    }
}

impl Keeper<'_> {
    /// It is so late: what waits for a moment is done.
    pub(crate) fn fleet_time_passed(&mut self, now_ns: u64) {
        self.insist(now_ns);
        let Some(fleet) = &mut self.fleet else { return };
        if fleet.switch_again_ns.is_some_and(|at| at <= now_ns) {
            self.connect_switch();
        }
        let drained = self.fleet.as_ref().and_then(|fleet| fleet.drain_ns);
        if drained.is_some_and(|at| at <= now_ns) {
            if let Some(fleet) = &mut self.fleet {
                fleet.drain_ns = None;
            }
            // Those that are not parked by now are asked to end.
            self.stop();
        }
    }
}

/// The present, in ms since 1970-01-01 UTC.
pub(crate) fn now_ms() -> u64 {
    clock::real_ns() / 1_000_000
}
