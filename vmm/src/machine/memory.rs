//! The guest's memory leaves and comes back.

use super::{GuestMachine, Life};
use crate::end::memory_lost;
use crate::guest;
use crate::residence::Residence;
use denali_abi::boot::DeviceEntry;
use denali_devices::BusState;
use std::sync::atomic::Ordering;

impl GuestMachine {
    /// Has the memory leave; says how many pages are in the region then, or why it stays.
    pub(super) fn leave(&mut self) -> Result<u64, String> {
        let Some(residence) = &mut self.residence else {
            return Err("there is no \"swap\" in its configuration".into());
        };
        if !residence.is_out() {
            self.bus.tidy();
            self.devices_saved = Some(self.bus.save(&self.ram));
        }
        match residence.swap_out() {
            Ok(pages) => {
                self.events.looks();
                // SAFETY: the C library releases pages that hold no allocation; no memory in use is touched.
                unsafe { libc::malloc_trim(0) };
                self.output.event(&Life::SwappedOut { pages });
                Ok(pages)
            }
            Err(error) => {
                self.devices_saved = None;
                let why = format!("{error}; the guest stays in memory");
                self.output.message(&format!("denali: {why}"));
                Err(why)
            }
        }
    }

    /// Brings the memory back, if it is out. A guest whose memory cannot be had ends here.
    pub(super) fn bring_in(&mut self) {
        let Some(residence) = self.residence.as_mut().filter(|residence| residence.is_out()) else {
            return;
        };
        if let Err(error) = residence.bring_in() {
            memory_lost(&self.identity.name, self.output, &error.to_string());
        }
        self.devices_saved = None;
        self.events.memory_came();
        self.new_generation();
        self.output.event(&Life::Woken);
    }

    /// Brings back a guest that was saved, with its devices. A copy is told what `devices` it has now.
    pub(crate) fn go_on(
        &mut self,
        saved: &BusState,
        devices: Option<&[DeviceEntry]>,
    ) -> Result<(), String> {
        match self.residence.as_ref().is_some_and(Residence::is_out) {
            true => self.bring_in(),
            false => self.new_generation(),
        }
        if let Some(devices) = devices {
            guest::tell_devices(&self.ram, devices);
        }
        self.bus.restore(saved, &self.ram).map_err(|error| error.to_string())
    }

    /// Lets a guest whose limit has pages evicted from the start go on so.
    pub(crate) fn begin_paging(&mut self) {
        if let Some(residence) = &mut self.residence
            && let Err(error) = residence.begin_paging()
        {
            memory_lost(&self.identity.name, self.output, &error.to_string());
        }
    }

    /// How many pages the guest has, if those are all that it may have and it is held for wanting more.
    pub(super) fn full(&self) -> Option<u32> {
        self.residence.as_ref().and_then(Residence::full)
    }

    /// Says that the guest is held, and why.
    pub(super) fn tell_held(&self) {
        let limit_pages = self.full();
        if let Some(pages) = limit_pages {
            self.output.message(&format!(
                "denali: {}: held: it has used all {pages} pages of swap.limit and wants more; stop it, or go on \
                 with a copy that has a larger limit",
                self.identity.name
            ));
        }
        self.output.event(&Life::Held { limit_pages });
    }

    /// A guest that is to end needs memory for that, and a limit no more.
    pub(super) fn lift_for_end(&mut self) {
        if self.events.is_stopping()
            && let Some(residence) = &mut self.residence
        {
            residence.lift();
        }
    }

    /// The guest has ended: a state that it was parked in is none any more.
    pub(crate) fn retire(&mut self) {
        if let Some(residence) = self.residence.take() {
            residence.retire();
        }
    }

    /// The guest is told that it may be a copy, or that time has passed: it draws new random numbers.
    fn new_generation(&mut self) {
        self.generation += 1;
        let registers = self.ram.registers();
        if let Ok(entropy) = guest::entropy() {
            for (word, value) in registers.entropy.iter().zip(entropy) {
                word.store(value, Ordering::Relaxed);
            }
        }
        registers.generation.store(self.generation, Ordering::Release);
    }
}
