//! The store and the pager's descriptor, made of what the launcher opened, before the sandbox.

use super::come::{anonymous_pages, fetch_into};
use super::working_set::first_pages;
use super::{Counters, REGISTERS, Residence, ResidenceError, WorkingSet};
use crate::output::Output;
use crate::prepared::Prepared;
use crate::sandbox::Confinement;
use crate::start::{StartError, inherited};
use denali_disk::{Disk, DiskOptions, Issuer, Method};
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{CommitSpec, ResumeSpec, SwapSpec};
use denali_pager::Uffd;
use denali_swap::{Commit, GuestId, Key, Opening, Options, PageNumber, Store, WrappedKey};
use std::fmt::Display;
use std::os::fd::AsFd;
use std::rc::Rc;

/// A guest's region, of which is being read what was found in it.
pub(crate) struct Seeking {
    region: Region,
    uffd: Option<Uffd>,
    prefetch: bool,
    limit: Option<usize>,
}

enum Region {
    /// One from which the guest goes on.
    Old(Box<Opening<Disk>>),
    /// A new one, with nothing in it.
    New(Box<Store<Disk>>),
}

/// A guest's region, and what was found in it.
pub(crate) struct Found {
    /// Pages may be on their way into the guest's memory, which is held below.
    store: Store<Disk>,
    _ram: Rc<GuestRam>,
    uffd: Option<Uffd>,
    state: Option<Vec<u8>>,
    working_set: Vec<PageNumber>,
    prefetch: bool,
    limit: Option<usize>,
}

impl Seeking {
    /// Begins to open the region to continue the guest from it, or makes it anew.
    pub(crate) fn begin(
        spec: &SwapSpec,
        resume: Option<&ResumeSpec>,
        prepared: &mut Prepared,
    ) -> Result<Self, StartError> {
        let confined = prepared.confinement == Confinement::Whole;
        let uffd = match (spec.userfault.map(inherited), prepared.uffd.take()) {
            (Some(_), Some(made)) => Some(made),
            (Some(device), None) if !confined => {
                Some(Uffd::from_device(device.as_fd()).map_err(refused)?)
            }
            _ => None,
        };
        let key = Key::read_from(inherited(spec.key).as_fd()).map_err(refused)?;
        let guest: GuestId = spec.guest_id.parse().map_err(|_| StartError::Spec("guest's id"))?;
        let files = spec.files.iter().copied().map(inherited).collect();
        let ring = prepared.ring.take();
        let options = DiskOptions {
            direct: spec.direct,
            method: if confined && ring.is_none() { Method::Plain } else { Method::Auto },
            issuer: Issuer::AnyThread,
            pages: true,
            stripe_unit: spec.unit,
        };
        let disk = Disk::with_ring(files, &options, ring).map_err(refused)?;
        let options =
            Options { capacity: spec.capacity, state_max: spec.state_max, encrypt: spec.encrypt };
        let region = match resume {
            Some(ResumeSpec::Parked { commit }) => {
                let known = commit.as_ref().map(known).transpose()?;
                let opening = Opening::begin(disk, guest, key, &options, known).map_err(refused)?;
                Region::Old(opening.into())
            }
            None | Some(ResumeSpec::Snapshot { .. }) => {
                let wrapped = spec.wrapped.as_deref().map(wrapped).transpose()?;
                let store = Store::format(disk, guest, key, &options, wrapped).map_err(refused)?;
                Region::New(store.into())
            }
        };
        let limit = spec.resident_limit.map(|pages| pages as usize);
        Ok(Self { region, uffd, prefetch: spec.prefetch, limit })
    }

    /// Waits for what is being read. What a parked guest needs first is begun to be read into its memory, `ram`.
    pub(crate) fn finish(self, ram: &Rc<GuestRam>) -> Result<Found, StartError> {
        let Self { region, uffd, prefetch, limit } = self;
        let (store, state, working_set) = match region {
            Region::Old(opening) => {
                let opened = opening.finish().map_err(refused)?;
                (opened.store, Some(opened.state), opened.working_set)
            }
            Region::New(store) => (*store, None, Vec::new()),
        };
        let mut found =
            Found { store, _ram: ram.clone(), uffd, state, working_set, prefetch, limit };
        if found.state.is_some() {
            found.fetch(ram).map_err(refused)?;
        }
        Ok(found)
    }
}

impl Found {
    /// Begins to read what a parked guest needs first: it comes while the machine is being made.
    fn fetch(&mut self, ram: &Rc<GuestRam>) -> Result<(), ResidenceError> {
        let stored: Vec<PageNumber> = self.store.pages().collect();
        let by_fault = self.uffd.is_some();
        let ahead = match by_fault && (self.limit.is_some() || !self.prefetch) {
            true => vec![REGISTERS],
            false => first_pages(&stored, &self.working_set, by_fault),
        };
        fetch_into(ram, &mut self.store, &ahead)
    }

    /// The guest's state beside its memory, once, if it was parked.
    pub(crate) fn take_state(&mut self) -> Option<Vec<u8>> {
        self.state.take()
    }
}

impl Residence {
    /// The memory of a guest: all of it in `ram`, or, if it was parked with this generation, all of it in the
    /// region.
    pub(crate) fn new(
        found: Found,
        ram: Rc<GuestRam>,
        parked: Option<u64>,
        copies_image: bool,
        (name, output): (String, Output),
    ) -> Self {
        let mut as_in_image = Vec::new();
        if parked.is_some() {
            let original = ram.pages_with_originals();
            as_in_image =
                original.map(PageNumber).filter(|&page| !found.store.contains(page)).collect();
        }
        let growth = growth_of(&ram, &found);
        Self {
            ram,
            store: Some(found.store),
            uffd: found.uffd,
            pager: None,
            out: parked.is_some(),
            registered: Vec::new(),
            as_in_image,
            working_set: WorkingSet::of(found.working_set, parked.unwrap_or(0)),
            prefetch: found.prefetch,
            // Copies are not what a limit is for.
            copies_image: copies_image && found.limit.is_none(),
            limit: found.limit,
            growth,
            counters: Counters::default(),
            name,
            output,
        }
    }
}

/// The most pages that a guest may have, if it could have more than its region has room for, and can be held.
/// The host knows nothing of pages in the memory of a guest's own process, nor of those that a copy shares.
fn growth_of(ram: &GuestRam, found: &Found) -> Option<u32> {
    let capacity = found.store.options().capacity;
    let held = found.uffd.is_some() && !ram.has_base() && ram.memfd().is_none();
    (held && (capacity as usize) < anonymous_pages(ram)).then_some(capacity)
}

fn known(commit: &CommitSpec) -> Result<Commit, StartError> {
    let root = denali_swap::hex::decode(&commit.root).ok_or(StartError::Spec("commit"))?;
    Ok(Commit { sequence: commit.sequence, root })
}

fn wrapped(text: &str) -> Result<WrappedKey, StartError> {
    let bytes = denali_swap::hex::decode(text).ok_or(StartError::Spec("wrapped key"))?;
    Ok(WrappedKey::from_bytes(bytes))
}

fn refused(error: impl Display) -> StartError {
    StartError::Swap(error.to_string())
}
