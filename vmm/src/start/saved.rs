//! A guest as it is saved, in a region or in a snapshot, and what a monitor starts from.
//!
//! What is read back is untrusted: here it is checked whether it is for this guest at all; vCPU, devices and
//! clock check their parts.

use super::{StartError, inherited};
use crate::guest::Memory;
use crate::prepared::Prepared;
use crate::residence::{self, Found};
use denali_devices::BusState;
use denali_hypervisor::GuestRam;
use denali_launcher::spec::{MachineSpec, ResumeSpec};
use denali_vcpu::SavedLoop;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

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

    /// Reads the guest that has so much memory and this image.
    pub(crate) fn parse(
        bytes: &[u8],
        (memory_size, image): (u64, &str),
    ) -> Result<Self, StartError> {
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
        if saved.memory_size != memory_size {
            return Err(wrong(format!(
                "has {} bytes of memory, and the configuration {memory_size}; set \"memory\" as it was",
                saved.memory_size
            )));
        }
        if saved.image != image {
            return Err(wrong("is of another image; name the one it was started from".into()));
        }
        if saved.generation == u64::MAX || !saved.vcpu.clock.is_possible() {
            return Err(wrong(
                "has a time or a generation that no guest reaches; it is damaged".into(),
            ));
        }
        Ok(saved)
    }
}

/// The field that is read before all others.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What a monitor starts from, while its region is being read.
pub(super) struct Seeking {
    region: Option<residence::Seeking>,
    /// The guest, if it is one of a snapshot.
    copied: Option<SavedGuest>,
    /// Its memory then: the file, and where in it RAM begins.
    base: Option<(OwnedFd, u64)>,
}

/// What a monitor starts from.
pub(super) struct Beginning {
    /// The guest's region.
    pub(super) found: Option<Found>,
    /// The guest, if it has run before.
    pub(super) saved: Option<SavedGuest>,
}

impl Seeking {
    /// Begins to read where the guest starts from.
    pub(super) fn begin(spec: &MachineSpec, prepared: &mut Prepared) -> Result<Self, StartError> {
        let begin = |swap| residence::Seeking::begin(swap, spec.resume.as_ref(), prepared);
        let region = spec.swap.as_ref().map(begin).transpose()?;
        let Some(ResumeSpec::Snapshot { file, state: (offset, length), memory }) = &spec.resume
        else {
            return Ok(Self { region, copied: None, base: None });
        };
        let file = File::from(inherited(*file));
        // The launcher has checked that it is in the file, and what was written.
        let mut state = vec![0; usize::try_from(*length).unwrap_or(0)];
        file.read_exact_at(&mut state, *offset)
            .map_err(|error| StartError::Snapshot(error.to_string()))?;
        let copied = Some(SavedGuest::parse(&state, guest(spec))?);
        Ok(Self { region, copied, base: Some((file.into(), *memory)) })
    }

    /// Where the guest's memory is.
    pub(super) fn take_memory(&mut self, spec: &MachineSpec) -> Memory {
        match (self.base.take(), &spec.resume) {
            (Some(base), _) => Memory::InSnapshot(base),
            (None, Some(_)) => Memory::InRegion,
            (None, None) => Memory::Fresh,
        }
    }

    /// Waits for what is being read.
    pub(super) fn finish(
        self,
        spec: &MachineSpec,
        ram: &Rc<GuestRam>,
    ) -> Result<Beginning, StartError> {
        let mut found = self.region.map(|region| region.finish(ram)).transpose()?;
        let mut saved = self.copied;
        if let Some(ResumeSpec::Parked { .. }) = &spec.resume {
            let state = found.as_mut().and_then(Found::take_state);
            let state = state.ok_or(StartError::Spec("place to continue from"))?;
            saved = Some(SavedGuest::parse(&state, guest(spec))?);
        }
        Ok(Beginning { found, saved })
    }
}

/// What a saved guest must agree with: bytes of memory, and SHA-256 of the image.
fn guest(spec: &MachineSpec) -> (u64, &str) {
    (spec.memory_size, &spec.image.hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use denali_devices::Bus;
    use denali_hypervisor::VcpuState;
    use denali_vcpu::SavedClock;
    use vm_memory::GuestMemoryMmap;

    const GUEST: (u64, &str) = (4 << 20, "1f");

    /// What a guest reads as that was saved with this time and generation.
    fn read(monotonic_ns: u64, generation: u64) -> Result<SavedGuest, StartError> {
        let (ahead_ns, real_ns, boot_id, seq) = (0, 0, String::new(), 2);
        let clock = SavedClock { monotonic_ns, ahead_ns, real_ns, boot_id, seq };
        let vcpu = SavedLoop { vcpu: VcpuState::default(), idle: true, run_deadline_met: 0, clock };
        let devices = Bus::<GuestMemoryMmap>::new().save(&GuestMemoryMmap::default()).unwrap();
        let saved = SavedGuest::new((GUEST.0, GUEST.1.into()), generation, vcpu, devices);
        SavedGuest::parse(&serde_json::to_vec(&saved).unwrap(), GUEST)
    }

    #[test]
    fn times_and_generations_that_cannot_go_on_are_refused() {
        assert_eq!(read(5, 1).unwrap().generation, 1);
        for (monotonic_ns, generation) in [(u64::MAX, 1), (5, u64::MAX)] {
            let error = read(monotonic_ns, generation).unwrap_err().to_string();
            assert!(error.contains("that no guest reaches"), "{error}");
        }
    }
}
