//! What a keeper or a person asks of the monitor.

use super::GuestMachine;
use crate::residence::Residence;
use denali_control::{Life, Request, Status, Told};
use denali_vcpu::{Asked, ClockStart, Machine};
use std::io;

impl GuestMachine {
    /// Takes requests and answers those that can be answered at once; `idle`: the guest waits.
    pub(super) fn hear(&mut self, idle: bool) -> io::Result<()> {
        if !self.events.take_request_came() {
            return Ok(());
        }
        loop {
            let Some(control) = &mut self.control else { return Ok(()) };
            control.look()?;
            let told = match control.asked() {
                None | Some(Request::Park { .. } | Request::Snapshot {}) => return Ok(()),
                Some(Request::Status {}) => Told::Status(self.status()),
                Some(Request::Adopt {}) => match control.adopt() {
                    Ok(()) => Told::Status(self.status()),
                    Err(why) => Told::Refused { why },
                },
                Some(Request::SwapOut {}) if !idle => {
                    Told::Refused { why: "the guest does not idle".into() }
                }
                Some(Request::SwapOut {}) => match self.leave() {
                    Ok(pages) => Told::SwappedOut { pages },
                    Err(why) => Told::Refused { why },
                },
            };
            self.answer(&told);
        }
    }

    /// Tells the keeper that the guest runs from here on.
    pub(crate) fn tell_running(&mut self) {
        if let Some(control) = &mut self.control {
            control.tell_keeper(&Told::Running { boot_ns: ClockStart::now().boot_ns() });
        }
    }

    /// Answers the request that waits, if there is one, and tells the keeper of what was done unasked.
    pub(super) fn answer(&mut self, told: &Told) {
        let Some(control) = &mut self.control else { return };
        match control.take() {
            Some(asking) => control.answer(&asking, told),
            None => control.tell_keeper(told),
        }
    }

    /// Whether somebody waits for the guest to be saved.
    pub(super) fn save_asked(&self) -> Asked {
        match self.control.as_ref().and_then(|control| control.asked()) {
            Some(Request::Park { .. } | Request::Snapshot {}) => Asked::Save,
            _ => Asked::Nothing,
        }
    }

    fn status(&self) -> Status {
        let life = match &self.residence {
            Some(residence) if residence.is_out() => Life::SwappedOut,
            _ if self.is_held() => Life::Held,
            _ => Life::Running,
        };
        let counters = self.residence.as_ref().map(Residence::counters).unwrap_or_default();
        let (resident_pages, stored_pages) = match &self.residence {
            Some(residence) => residence.pages(),
            None => (self.ram.resident_pages().map_or(0, |pages| pages.len() as u64), 0),
        };
        Status {
            name: self.identity.name.clone(),
            life,
            resident_pages,
            stored_pages,
            swapped_out: counters.swapped_out,
            woken: counters.woken,
            faults: counters.faults,
            generation: self.generation,
            guest_id: self.identity.guest_id.clone(),
            limit_reached: self.full(),
        }
    }
}
