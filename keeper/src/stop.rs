//! The keeper is asked to stop.

use crate::clock;
use crate::event::Reason;
use crate::fleet::{Fleet, SWITCH_SOCKET};
use crate::guest::{Guest, Phase, State};
use crate::keeper::Keeper;
use denali_control::{Request, Tell};
use std::os::fd::AsFd;

/// Most guests that run at a time to be stopped after they were parked.
const STOPPING_MAX: usize = 16;

impl Keeper<'_> {
    /// A signal asks to stop: has guests parked if they can go on later, and otherwise asks them to stop. The
    /// next one insists.
    pub(crate) fn stop(&mut self) {
        self.stops += 1;
        self.empty_pool();
        self.queue.clear();
        if let (Some(fleet), 1) = (&mut self.fleet, self.stops) {
            let patience_ns = fleet.told.host.drain.0;
            fleet.drain_ns = Some(clock::boot_ns().saturating_add(patience_ns));
        }
        for number in 0..self.guests.len() as u32 {
            match (&self.guests[number as usize].state, self.stops) {
                (State::Ended | State::Stopped | State::Vacant, _) => {}
                (State::Waits, _) if self.fleet.is_some() => {}
                (State::Waits, _) => self.stop_parked(number),
                (State::Lives(_), 1) if self.registry.is_some() => self.ask_to_park(number),
                (State::Lives(_), _) if self.fleet.is_some() => self.hurry(number),
                (State::Lives(_), _) => self.ask_to_stop(number),
            }
        }
    }

    /// Stops a guest that has no monitor: if it cannot go on later it gets one, to hear of it.
    pub(crate) fn stop_parked(&mut self, number: u32) {
        let has_run = self.guests[number as usize].commit.is_some();
        if self.registry.is_some() && has_run {
            return;
        }
        self.wheel.clear(number);
        match has_run && self.stops == 1 {
            true => self.queue.push_back((number, Reason::Stop)),
            false => self.give_up(number, "its keeper stopped"),
        }
    }

    /// Asks a guest's monitor to park it, as soon as it runs.
    pub(crate) fn ask_to_park(&mut self, number: u32) {
        let guest = &mut self.guests[number as usize];
        let can_park = guest.has_region();
        let Some(living) = guest.living() else { return };
        living.to_park = true;
        if living.phase != Phase::Running {
            return;
        }
        if can_park && (Request::Park { cut: true }).tell(living.monitor.channel.as_fd()).is_ok() {
            living.phase = Phase::Parking;
        } else {
            self.ask_to_stop(number);
        }
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_over(&self) -> bool {
        match self.stops {
            0 => self.leaves || (self.active == 0 && self.fleet.is_none()),
            _ => self.alive == 0 && self.queue.is_empty() && !self.host_is_asked_again(),
        }
    }

    /// Whether a guest that is to be stopped waits for a monitor which the host had none for yet: for a moment
    /// the last one's region can be in use still.
    fn host_is_asked_again(&self) -> bool {
        let waits = |guest: &Guest| guest.waits() && guest.pauses > 0;
        self.stops == 1 && self.registry.is_none() && self.guests.iter().any(waits)
    }

    pub(crate) fn may_take_from_queue(&self) -> bool {
        !self.queue.is_empty() && (self.stops == 0 || self.alive < STOPPING_MAX)
    }

    /// The end: what cannot go on later is given up, and what is remembered is on the disk.
    pub(crate) fn close(&mut self) {
        self.empty_pool();
        if let Some(fleet) = self.fleet.take() {
            return self.close_fleet(&fleet);
        }
        for number in 0..self.guests.len() as u32 {
            let guest = &self.guests[number as usize];
            let goes_on_later = self.registry.is_some() && guest.commit.is_some();
            match guest.waits() && !goes_on_later {
                true if guest.lives == 0 => self.undo(number),
                true => self.finish(number, None, "its keeper stopped"),
                false => {}
            }
        }
        self.close_registry();
    }

    /// Guests of a fleet stay as they are: a keeper that comes finds them.
    fn close_fleet(&mut self, fleet: &Fleet) {
        if self.alive == 0
            && let Some(network) = &fleet.network
        {
            network.end();
            // One that is left is replaced by the next keeper.
            let _ = std::fs::remove_file(fleet.told.run.join(SWITCH_SOCKET));
        }
        self.close_registry();
    }

    fn close_registry(&mut self) {
        if let Some(message) = self.registry.take().and_then(|registry| registry.finish()) {
            self.teller.tell(&crate::event::Event::Notice { name: "", message });
        }
    }
}
