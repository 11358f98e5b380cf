//! A guest as it is saved, in a region or in a snapshot, and what a monitor starts from.
//!
//! What is read back is untrusted: here it is checked whether it is for this guest at all; vCPU, devices and
//! clock check their parts.

use super::{StartError, inherited};
use crate::residence::Found;
use denali_devices::BusState;
use denali_launcher::spec::{MachineSpec, ResumeSpec};
use denali_swap::snapshot::Snapshot;
use denali_vcpu::SavedLoop;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::OwnedFd;

/// The version of [`SavedGuest`]: monitors read their own version only.
const VERSION: u32 = 1;

/// A guest but for its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedGuest {
    version: u32,
    /// End of RAM in bytes.
    memory_size: u64,
    /// SHA-256 of its image.
    image: String,
    /// Times it went on as a copy or from its region, and 1 for its start.
    pub(crate) generation: u64,
    /// Registers and time.
    pub(crate) vcpu: SavedLoop,
    /// Devices, in the order of their numbers.
    pub(crate) devices: BusState,
}

impl SavedGuest {
    /// A guest that is to be saved.
    pub(crate) fn new(
        (memory_size, image): (u64, String),
        generation: u64,
        vcpu: SavedLoop,
        devices: BusState,
    ) -> Self {
        Self { version: VERSION, memory_size, image, generation, vcpu, devices }
    }

    fn parse(bytes: &[u8], spec: &MachineSpec) -> Result<Self, StartError> {
        let wrong = |why: String| StartError::Saved(why);
        let version: Version = serde_json::from_slice(bytes)
            .map_err(|error| wrong(format!("cannot be understood: {error}")))?;
        if version.version != VERSION {
            return Err(wrong(format!(
                "has version {}, and this monitor reads version {VERSION}; continue it with the Denali \
                 that saved it",
                version.version
            )));
        }
        let saved: Self = serde_json::from_slice(bytes)
            .map_err(|error| wrong(format!("cannot be understood: {error}")))?;
        if saved.memory_size != spec.memory_size {
            return Err(wrong(format!(
                "has {} bytes of memory, and the configuration {}; set \"memory\" as it was",
                saved.memory_size, spec.memory_size
            )));
        }
        if saved.image != spec.image.hash {
            return Err(wrong("is of another image; name the one it was started from".into()));
        }
        Ok(saved)
    }
}

/// The field that is read before all others.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What a monitor starts from.
pub(super) struct Beginning {
    /// The guest's region.
    pub(super) found: Option<Found>,
    /// The guest, if it has run before.
    pub(super) saved: Option<SavedGuest>,
    /// Its memory, if that is in a snapshot: the file, and where in it RAM begins.
    pub(super) base: Option<(OwnedFd, u64)>,
}

impl Beginning {
    /// Reads where the guest starts from.
    pub(super) fn of(spec: &MachineSpec) -> Result<Self, StartError> {
        let mut found = match &spec.swap {
            Some(swap) => Some(Found::open(swap, spec.resume.as_ref())?),
            None => None,
        };
        let (mut saved, mut base) = (None, None);
        match &spec.resume {
            None => {}
            Some(ResumeSpec::Parked { .. }) => {
                let state = found.as_mut().and_then(Found::take_state);
                let state = state.ok_or(StartError::Spec("place to continue from"))?;
                saved = Some(SavedGuest::parse(&state, spec)?);
            }
            Some(ResumeSpec::Snapshot { file }) => {
                let file = File::from(inherited(*file));
                let snapshot = Snapshot::read(&file)
                    .map_err(|error| StartError::Snapshot(error.to_string()))?;
                saved = Some(SavedGuest::parse(&snapshot.state, spec)?);
                base = Some((file.into(), snapshot.memory.offset));
            }
        }
        Ok(Self { found, saved, base })
    }
}
