//! The guest is saved: into its region, to go on elsewhere, or into a snapshot, to go on here and as copies.

use super::{GuestMachine, Life};
use crate::start::SavedGuest;
use crate::{guest, residence};
use denali_abi::registers::NO_DEADLINE;
use denali_control::{Parked, Request, Told};
use denali_swap::snapshot::{Contents, SnapshotWriter};
use denali_swap::{PAGE, PageNumber};
use denali_vcpu::SavedLoop;
use std::fs::File;
use std::sync::atomic::Ordering;

/// Who a guest is, and what goes with it when it is saved.
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: String,
    /// End of RAM in bytes.
    pub(crate) memory_size: u64,
    /// SHA-256 of its image.
    pub(crate) image: String,
    /// Bytes of its image.
    pub(crate) image_length: usize,
    /// What this boot of the host is called.
    pub(crate) boot_id: String,
    /// Its configuration as JSON, for snapshots.
    pub(crate) configuration: Option<String>,
    /// Whose its region is, if that outlives the monitor.
    pub(crate) guest_id: Option<String>,
}

impl GuestMachine {
    /// Saves the guest as the request that waits says, or parks it if none does. True: it goes on elsewhere.
    pub(super) fn save_as_asked(&mut self, state: SavedLoop) -> bool {
        let asked = self.control.as_ref().and_then(|control| control.asked().cloned());
        if let (None, Some(control)) = (&asked, &mut self.control) {
            control.tell_keeper(&Told::Parking {});
            if !control.has_keeper() {
                // It has just gone, and nobody would wake the guest.
                return false;
            }
        }
        let told = match asked {
            Some(Request::Snapshot {}) => {
                self.snapshot(state).map(|pages| Told::Snapshot { pages })
            }
            Some(Request::Park { cut }) => self.park(state, cut).map(Told::Parked),
            _ => self.park(state, false).map(Told::Parked),
        };
        let told = told.unwrap_or_else(|why| Told::Refused { why });
        self.answer(&told);
        let parked = matches!(told, Told::Parked(_));
        if parked {
            self.output.event(&Life::Parked);
        }
        parked
    }

    /// Whether the devices can be saved as they are.
    pub(super) fn can_save_devices(&mut self) -> bool {
        match &self.devices_saved {
            Some(saved) => saved.is_ok(),
            None => self.bus.save(&self.ram).is_ok(),
        }
    }

    fn park(&mut self, state: SavedLoop, cut: bool) -> Result<Parked, String> {
        if self.residence.is_none() {
            return Err("there is no \"swap\" in its configuration".into());
        }
        let guest_id = self.identity.guest_id.clone().ok_or(
            "its swap region ends with its monitor; keep it with denali keep, or name the host's key in \
             \"swap\": {\"key\": …}",
        )?;
        let deadline = self.deadline_of(&state);
        let (clock, pages) = (state.clock.clone(), self.saved_bytes(state, cut)?);
        let Some(residence) = &mut self.residence else { return Err("it has no region".into()) };
        let commit = residence.park(&pages).map_err(|error| error.to_string())?;
        Ok(Parked {
            guest_id,
            sequence: commit.sequence,
            root: denali_swap::hex::encode(&commit.root),
            deadline_ns: deadline.map(|at| at.wrapping_sub(clock.ahead_ns)),
            deadline_real_ns: deadline
                .map(|at| clock.real_ns.saturating_add(at.saturating_sub(clock.monotonic_ns))),
            pages: residence.pages().1,
        })
    }

    /// The moment of its monotonic time at which the guest must run again, in ns.
    fn deadline_of(&self, state: &SavedLoop) -> Option<u64> {
        let registers = self.ram.registers();
        let at = registers.idle_deadline_ns.load(Ordering::Relaxed);
        let waits = state.idle && registers.pending.load(Ordering::Relaxed) == 0;
        match waits {
            true => (at != NO_DEADLINE).then_some(at),
            false => Some(state.clock.monotonic_ns),
        }
    }

    fn snapshot(&mut self, state: SavedLoop) -> Result<u64, String> {
        let file = self.control.as_mut().and_then(|control| control.take_file());
        let file = File::from(file.ok_or("no file came along")?);
        let configuration = self.identity.configuration.clone().unwrap_or_default();
        let bytes = self.saved_bytes(state, true)?;
        let image = guest::read_image(&self.ram, self.identity.image_length);
        let why = |error: &dyn std::fmt::Display| format!("cannot write the snapshot: {error}");
        let contents = Contents {
            state: &bytes,
            configuration: configuration.as_bytes(),
            image: &image,
            memory_size: self.identity.memory_size,
        };
        let mut writer = SnapshotWriter::new(&file, contents).map_err(|error| why(&error))?;
        let mut pages = 0;
        let mut take = |page: PageNumber, content: &[u8; PAGE]| {
            pages += 1;
            writer.pages(page, content).map_err(|error| why(&error))
        };
        match &mut self.residence {
            Some(residence) => residence.each_page(&mut take)?,
            None => residence::each_page(&self.ram, &mut take)?,
        }
        writer.finish().map_err(|error| why(&error))?;
        Ok(pages)
    }

    /// The guest but for its memory, as it is written down. `cut`: connections of its devices are no hindrance.
    fn saved_bytes(&mut self, state: SavedLoop, cut: bool) -> Result<Vec<u8>, String> {
        let devices = match &self.devices_saved {
            Some(Err(_)) if cut => {
                // Devices are saved with the guest's memory in sight.
                self.bring_in();
                self.bus.save_cutting(&self.ram)
            }
            Some(saved) => saved.clone(),
            None if cut => self.bus.save_cutting(&self.ram),
            None => self.bus.save(&self.ram),
        };
        let devices = devices.map_err(|error| error.to_string())?;
        let identity = (self.identity.memory_size, self.identity.image.clone());
        let saved = SavedGuest::new(identity, self.generation, state, devices);
        serde_json::to_vec(&saved).map_err(|error| format!("cannot write the guest down: {error}"))
    }
}
