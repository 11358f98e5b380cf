//! Guests and host, as they are shown to who asks.

use super::orders::wrong;
use super::{Fleet, disk};
use crate::clock;
use crate::guest::{Guest, Phase, State};
use crate::keeper::Keeper;
use denali_client::{
    Counts, Desired, Gate, GuestState, GuestView, HostView, Inspection, Memory, PoolView, Problem,
};
use denali_scheduler::gatekeeper::Place;
use std::path::PathBuf;

impl Keeper<'_> {
    /// Guests whose names fit, by name.
    pub(crate) fn list(&self, patterns: &[String]) -> Vec<GuestView> {
        self.fitting(patterns).into_iter().map(|number| self.view(number)).collect()
    }

    fn view(&self, number: u32) -> GuestView {
        let guest = &self.guests[number as usize];
        let file = &guest.file;
        let network = self.fleet.as_ref().and_then(|fleet| fleet.network.as_ref());
        let activity = network.map(super::network::Network::activity);
        let last_ns = activity.map_or(0, |activity| activity.last_ns(number));
        GuestView {
            name: guest.name.to_string(),
            id: guest.id.to_string(),
            tenant: file.tenant.to_string(),
            state: self.state_of(number),
            desired: file.desired,
            address: file.address,
            image: file.image.to_string(),
            pid: match &guest.state {
                State::Lives(living) => Some(living.monitor.process),
                _ => None,
            },
            memory_bytes: file.memory,
            stored_bytes: guest.pages * 4096,
            wakes: file.wakes.into(),
            restarts: file.restarts.into(),
            since_ms: file.since_ms,
            active_ms: (last_ns > 0).then(|| clock::real_of_boot(last_ns) / 1_000_000),
            packets: activity.map_or(0, |activity| activity.packets(number)),
            note: file.note.as_deref().map(str::to_owned),
        }
    }

    fn state_of(&self, number: u32) -> GuestState {
        let guest = &self.guests[number as usize];
        let waits = |fleet: &Fleet| fleet.gate.place(number) == Place::Waiting;
        match &guest.state {
            State::Stopped | State::Vacant => GuestState::Stopped,
            State::Ended => GuestState::Failed,
            State::Waits if self.fleet.as_deref().is_some_and(waits) => GuestState::Queued,
            State::Waits if guest.commit.is_some() || guest.file.desired == Desired::Parked => {
                GuestState::Parked
            }
            State::Waits => GuestState::Queued,
            State::Lives(living) => match living.phase {
                Phase::Waking => GuestState::Waking,
                Phase::Running => GuestState::Running,
                Phase::Parking => GuestState::Parking,
            },
        }
    }

    /// All that is known of a guest.
    pub(crate) fn inspect(&mut self, name: &str) -> Result<Box<Inspection>, Problem> {
        let unknown = || wrong(format!("there is no guest {name:?}; denali list shows them"));
        let fleet = self.fleet.as_ref().ok_or_else(unknown)?;
        let number = fleet.names.get(name).copied().ok_or_else(unknown)?;
        let run = fleet.told.run.clone();
        let guest = &self.guests[number as usize];
        let (configuration, image_hash) = self.written(guest);
        let process = guest.state.process();
        let consoles = configuration["console"].as_array().into_iter().flatten();
        let mut sockets = consoles.filter_map(|console| console["backend"]["socket"].as_str());
        Ok(Box::new(Inspection {
            image_hash,
            template: guest.file.template.as_ref().map(|path| path.display().to_string()),
            sequence: guest.commit.map_or(0, |commit| commit.sequence),
            deadline_ms: guest.deadline_ns.map(|at| clock::real_of_boot(at) / 1_000_000),
            log: self.log_path(name).map(|path| path.display().to_string()),
            control: process
                .map(|process| run.join(format!("{process}.sock")).display().to_string()),
            console: sockets.next().map(str::to_owned),
            resident_bytes: process.and_then(resident),
            guest: self.view(number),
            configuration,
        }))
    }

    /// A guest's configuration, and its image's hash.
    fn written(&self, guest: &Guest) -> (serde_json::Value, String) {
        let parse = |text: &str| serde_json::from_str(text).unwrap_or_default();
        if let Some(kept) = &guest.kept {
            return (parse(kept.configuration()), kept.image_hash().to_owned());
        }
        let record = self.registry.as_ref().and_then(|registry| registry.get(guest.id).ok());
        record.map_or_else(Default::default, |record| (parse(&record.configuration), record.image))
    }

    fn log_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.settings.logs?.join(format!("{name}.log")))
    }

    /// The host in numbers.
    pub(crate) fn host_view(&mut self) -> HostView {
        let mut guests = Counts::new();
        for number in 0..self.guests.len() as u32 {
            if !matches!(self.guests[number as usize].state, State::Vacant) {
                *guests.entry(self.state_of(number)).or_default() += 1;
            }
        }
        let (size, ready) = (self.settings.pool as u64, self.pool.len() as u64);
        let drains = self.stops > 0;
        let Some(fleet) = &mut self.fleet else { return HostView::default() };
        fleet.sample(clock::boot_ns());
        let census = fleet.gate.census();
        let totals = fleet.gate.totals();
        let host = &fleet.told.host;
        let stripes = host.swap.iter().flat_map(|swap| &swap.stripes);
        HostView {
            version: fleet.told.version.clone(),
            since_ms: fleet.since_ms,
            guests,
            memory: Memory {
                total: fleet.memory.1,
                available: fleet.memory.0,
                minimum_free: host.minimum_free.0,
                budget: host.memory.map_or(0, |memory| memory.0),
                charged: census.charged,
            },
            swap: stripes.map(|folder| disk::swap(folder)).collect(),
            pool: PoolView { size, ready, missed: fleet.totals.missed },
            gate: Gate {
                queued: census.waiting as u64,
                admitted: totals.admitted,
                evicted: totals.evicted,
                max_running: host.max_running,
                last: fleet.decided.clone(),
            },
            wakes: fleet.totals.wakes,
            parks: fleet.totals.parks,
            restarts: fleet.totals.restarts,
            wake_us: quantiles(fleet.wake_us.iter().copied().collect()),
            switch: fleet.network.is_some(),
            drains,
        }
    }
}

/// Median and 99 % of times.
fn quantiles(mut times: Vec<u32>) -> [u64; 2] {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or(0).into()
    };
    [at(0.5), at(0.99)]
}

/// The proportional share of memory of a process, in bytes.
fn resident(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_middle_and_an_end() {
        assert_eq!(quantiles(Vec::new()), [0, 0]);
        assert_eq!(quantiles(vec![7]), [7, 7]);
        assert_eq!(quantiles((1..=100).rev().collect()), [51, 100]);
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident(std::process::id()).unwrap() > 100 << 10);
        assert_eq!(resident(u32::MAX), None);
    }
}
