//! What a monitor makes before it has a guest, so that none waits for it: nothing of it depends on which it will be.
//!
//! All of it is made before the sandbox, which is entered before the guest is known. See `sandbox` for what
//! the monitor can still do then.

use crate::events::Sources;
use crate::sandbox::{self, Confinement};
use crate::start::inherited;
use denali_disk::{BareRing, Issuer};
use denali_hypervisor::kvm::BareMachine;
use denali_launcher::spec::{Likeness, MachineSpec, PreparationSpec};
use denali_pager::Uffd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a monitor can make before it knows its guest. What cannot be made now is made, and refused, when there is a
/// guest.
#[derive(Default)]
pub struct Prepared {
    /// A machine with memory for the most likely guest.
    pub(crate) machine: Option<BareMachine>,
    /// What events come through, and signals.
    pub(crate) sources: Option<Sources>,
    /// The host's account of this process's pages.
    pub(crate) account: Option<OwnedFd>,
    /// For pages that come back as they are touched.
    pub(crate) uffd: Option<Uffd>,
    /// For the files of the guest's region.
    pub(crate) ring: Option<BareRing>,
    /// How far the sandbox was entered.
    pub(crate) confinement: Confinement,
    /// For what guest.
    likeness: Option<Likeness>,
}

impl Prepared {
    /// Makes as much as can be, and enters the sandbox as far as it is known. A monitor that cannot make
    /// something enters it when it has its guest, as one that was not started in advance.
    #[must_use]
    pub fn new(spec: &PreparationSpec) -> Self {
        denali_swap::get_ready();
        crate::start::use_one_heap();
        let mut prepared = Self { likeness: Some(spec.likeness), ..Self::default() };
        let root = spec.root.map(inherited);
        let made = prepared.make(spec);
        if made.is_ok() {
            prepared.confinement = sandbox::enter_waiting(spec.likeness, root);
        }
        prepared
    }

    fn make(&mut self, spec: &PreparationSpec) -> io::Result<()> {
        let Likeness { kvm, memory_size, swaps, .. } = spec.likeness;
        let devices = (spec.kvm.map(inherited), spec.userfault.map(inherited));
        self.sources = Some(Sources::new()?);
        if swaps {
            // Without a ring there are other ways to read and write.
            self.ring = BareRing::new(Issuer::AnyThread).ok();
        }
        if kvm {
            self.account = Some(denali_hypervisor::open_account().map_err(io::Error::other)?);
            let device = devices.0.ok_or(io::ErrorKind::NotFound)?;
            let mut machine = BareMachine::new(device).map_err(io::Error::other)?;
            machine.expect(memory_size).map_err(io::Error::other)?;
            self.machine = Some(machine);
            self.uffd = devices.1.map(|device| Uffd::from_device(device.as_fd())).transpose()?;
        }
        Ok(())
    }

    /// Whether the monitor can have this guest.
    pub(crate) fn serves(&self, machine: &MachineSpec) -> bool {
        self.likeness.is_none_or(|likeness| likeness.serves(Likeness::of(machine)))
    }

    /// Readable when the monitor is asked to end though it has no guest yet.
    #[must_use]
    pub fn asked_to_end(&self) -> Option<BorrowedFd<'_>> {
        self.sources.as_ref().map(Sources::signals)
    }
}
