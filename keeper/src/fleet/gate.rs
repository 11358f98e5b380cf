//! Who is let into memory, and who leaves for whom: the gatekeeper's decisions, carried out.

use super::Fleet;
use super::network::Network;
use crate::clock;
use crate::event::{Event, Reason};
use crate::guest::{Guest, Phase, State};
use crate::keeper::Keeper;
use denali_client::What;
use denali_config::{HostConfig, TenantConfig};
use denali_control::{Request, Tell};
use denali_scheduler::gatekeeper::{Claim, Decision, Gatekeeper, Limits, Pacing, Place, Quota};
use std::os::fd::AsFd;

/// Most guests that come at a time: more would wait for the processors, and each for all others.
const COMING_MAX: usize = 16;

/// What a monitor and the kernel's part of its machine take, in bytes: with the pages below, what ten thousand guests
/// took each (`docs/performance.md`).
const MONITOR_BYTES: u64 = 768 << 10;

/// What a guest is counted for of which nothing is known yet: its own pages, in bytes.
const PAGES_BYTES: u64 = 512 << 10;

/// How old what is known of the host's memory may be while guests wait, in ns.
const SAMPLE_NS: u64 = 50_000_000;

/// Who has waited for less has not waited, in ns.
const NOTABLE_NS: u64 = 1_000_000;

/// Most decisions at a time, before others are heard.
const DECISIONS_MAX: usize = 64;

/// A gatekeeper with the host's limits.
pub(crate) fn gatekeeper(host: &HostConfig) -> Gatekeeper {
    let limits = Limits {
        max_running: u32::try_from(host.max_running).unwrap_or(u32::MAX),
        budget: host.memory.map_or(0, |memory| memory.0),
        minimum_free: host.minimum_free.0,
    };
    Gatekeeper::new(limits, Pacing::default())
}

/// A tenant's quota as the gatekeeper takes it.
pub(crate) fn quota(tenant: &TenantConfig) -> Quota {
    Quota {
        running: tenant.running.map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
        memory: tenant.memory.map_or(0, |most| most.0),
    }
}

/// What a guest is counted for in memory.
fn claim(guest: &Guest, tenant: u32) -> Claim {
    let stored = guest.pages * 4096;
    let pages = if stored == 0 { PAGES_BYTES.min(guest.file.memory) } else { stored };
    let fixed = !guest.has_region();
    Claim { bytes: MONITOR_BYTES + pages, stored, tenant, fixed }
}

impl Fleet {
    /// Whether no more guests are let in for now, whatever the gatekeeper says.
    pub(crate) fn work_waits_for_room(&self) -> bool {
        self.gate.census().coming >= COMING_MAX
    }

    /// Looks at the host's memory, if what is known of it is old.
    pub(crate) fn sample(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.sampled_ns) < SAMPLE_NS {
            return;
        }
        self.sampled_ns = now_ns;
        if let Some((available, total)) = super::disk::memory() {
            self.memory = (available, total);
            self.gate.memory(available, total);
        }
    }

    /// The next decision, if one can be carried out.
    fn decide(&mut self, now_ns: u64) -> Option<Decision> {
        if self.work_waits_for_room() {
            return None;
        }
        let activity = self.network.as_ref().map(Network::activity);
        self.gate.decide(now_ns, &|guest| activity.map_or(0, |table| table.last_ns(guest)))
    }
}

impl Keeper<'_> {
    /// Something is for a guest without a monitor: it gets one as soon as it is let in.
    pub(crate) fn want(&mut self, number: u32, reason: Reason) {
        let now_ns = clock::boot_ns();
        let guest = &self.guests[number as usize];
        let Some(fleet) = &mut self.fleet else { return };
        // One that is let in and could not be given a monitor at once.
        if fleet.gate.place(number) == Place::Coming {
            return self.let_in(number, reason, now_ns);
        }
        let tenant = fleet.tenant(&guest.file.tenant);
        let claim = claim(guest, tenant);
        fleet.wanted.entry(number).or_insert((reason, now_ns));
        fleet.gate.want(number, claim, now_ns);
        self.admit();
    }

    /// Carries out what the gatekeeper decides.
    pub(crate) fn admit(&mut self) {
        for _ in 0..DECISIONS_MAX {
            let now_ns = clock::boot_ns();
            let Some(fleet) = &mut self.fleet else { return };
            fleet.sample(now_ns);
            let Some(decision) = fleet.decide(now_ns) else { return };
            self.tell_decision(&decision);
            match decision {
                Decision::Admit { guest, .. } => self.admitted(guest, now_ns),
                Decision::Evict { guest, .. } => self.evict(guest),
                Decision::Refuse { guest, why } => {
                    if let Some(fleet) = &mut self.fleet {
                        fleet.wanted.remove(&guest);
                    }
                    self.give_up(guest, &why.to_string());
                }
            }
        }
    }

    /// A guest is let in.
    fn admitted(&mut self, number: u32, now_ns: u64) {
        let Some(fleet) = &mut self.fleet else { return };
        let (reason, since_ns) = fleet.wanted.remove(&number).unwrap_or((Reason::Again, now_ns));
        match self.guests[number as usize].waits() {
            true => self.let_in(number, reason, since_ns),
            false => fleet.gate.left(number, now_ns),
        }
    }

    /// A guest is to leave memory for others.
    fn evict(&mut self, number: u32) {
        let guest = &mut self.guests[number as usize];
        let State::Lives(living) = &mut guest.state else { return self.gate_left(number) };
        let park = Request::Park { cut: false };
        let asked =
            living.phase == Phase::Running && park.tell(living.monitor.channel.as_fd()).is_ok();
        match (asked, &mut self.fleet) {
            (true, _) => living.phase = Phase::Parking,
            (false, Some(fleet)) => fleet.gate.stays(number, clock::boot_ns()),
            (false, None) => {}
        }
    }

    /// Says what was decided, if it is more than that a guest that nobody had to wait for came.
    fn tell_decision(&mut self, decision: &Decision) {
        let (number, notable) = match *decision {
            Decision::Admit { guest, waited_ns } => (guest, waited_ns >= NOTABLE_NS),
            Decision::Evict { guest, .. } | Decision::Refuse { guest, .. } => (guest, true),
        };
        if !notable {
            return;
        }
        let decision = self.in_words(decision);
        let name = &self.guests[number as usize].name;
        if let Some(fleet) = &mut self.fleet {
            fleet.decided = format!("{name}: {decision}");
        }
        self.teller.publish(name, What::Gate { decision });
    }

    /// A decision about a guest, with the names of others.
    fn in_words(&self, decision: &Decision) -> String {
        match *decision {
            Decision::Admit { waited_ns, .. } => {
                format!("let in, after {} ms", waited_ns / 1_000_000)
            }
            Decision::Evict { why, made_for, idle_ns, .. } => {
                let other =
                    made_for.map(|guest| format!(" for {}", self.guests[guest as usize].name));
                let other = other.unwrap_or_default();
                format!("parks it{other}, idle for {} ms: {why}", idle_ns / 1_000_000)
            }
            Decision::Refuse { why, .. } => format!("refused: {why}"),
        }
    }

    /// A guest is not in memory any more.
    pub(crate) fn gate_left(&mut self, number: u32) {
        if let Some(fleet) = &mut self.fleet {
            fleet.gate.left(number, clock::boot_ns());
        }
    }

    /// A guest that was asked to leave stays.
    pub(crate) fn gate_stays(&mut self, number: u32) {
        if let Some(fleet) = &mut self.fleet {
            fleet.gate.stays(number, clock::boot_ns());
        }
    }

    /// A guest runs.
    pub(crate) fn gate_runs(&mut self, number: u32) {
        if let Some(fleet) = &mut self.fleet {
            fleet.gate.runs(number, clock::boot_ns());
        }
    }

    /// A guest was found in memory.
    pub(crate) fn gate_found(&mut self, number: u32) {
        let guest = &self.guests[number as usize];
        if let Some(fleet) = &mut self.fleet {
            let tenant = fleet.tenant(&guest.file.tenant);
            fleet.gate.found(number, claim(guest, tenant), clock::boot_ns());
        }
    }

    /// Nothing is for a guest any more.
    pub(crate) fn gate_forget(&mut self, number: u32) {
        if let Some(fleet) = &mut self.fleet {
            fleet.wanted.remove(&number);
            fleet.gate.forget(number);
        }
    }

    /// Tells of a guest that could not be given a monitor.
    pub(crate) fn notice(&mut self, number: u32, message: String) {
        let name = &self.guests[number as usize].name;
        self.teller.tell(&Event::Notice { name, message });
    }
}
