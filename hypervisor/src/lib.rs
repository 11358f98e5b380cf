//! What runs guest instructions: two small traits, and a back end for KVM and one for processes.
//!
//! A back end knows how to enter a guest and why it came out; what an exit means is decided elsewhere.
//! Both give the same exits, faults and registers for the same guest (`docs/abi.md` lists the few
//! things that are unspecified).

#[cfg(test)]
mod conformance;
mod error;
mod exit;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod mapping;
mod ram;
mod registers;
mod state;

pub mod kvm;
pub mod process;

pub use error::Error;
pub use exit::PAGE_FAULT;
pub use exit::{Exit, Fault, Width};
pub use ram::{
    Backing, BareRam, ExportedRegion, GuestRam, ImageCopy, ImagePart, Original, open_account,
};
pub use registers::{GPR_NAMES, Registers};
pub use state::{ExtendedState, StateError, VcpuState};

/// A virtual machine: an address space in which a virtual CPU can run.
pub trait Vm {
    /// Creates the one vCPU of the machine, which will start with `entry`.
    ///
    /// # Errors
    /// When the host refuses, or a vCPU exists already.
    fn create_vcpu(&mut self, entry: &Registers) -> Result<Box<dyn Vcpu>, Error>;
}

/// A virtual CPU, entered by the thread that created it.
pub trait Vcpu {
    /// Enters the guest until something happens that the monitor must see.
    ///
    /// # Errors
    /// When the host fails, never for what a guest does.
    fn run(&mut self) -> Result<Exit, Error>;

    /// Gives the guest the value its IN instruction reads; only after [`Exit::In`], before the next
    /// [`Vcpu::run`] or [`Vcpu::registers`].
    ///
    /// # Errors
    /// When the host fails.
    fn complete_in(&mut self, data: u32) -> Result<(), Error>;

    /// The guest's registers: after an IN or OUT those with which the next instruction starts, after a
    /// fault those of the faulting instruction (of the next one for traps, as the processor has it).
    ///
    /// # Errors
    /// When the host fails.
    fn registers(&mut self) -> Result<Registers, Error>;

    /// Replaces the guest's registers, so that the next [`Vcpu::run`] continues from them.
    ///
    /// # Errors
    /// When the host fails.
    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error>;

    /// What the guest would go on with at the next [`Vcpu::run`]; it may go on all the same. After any
    /// exit but [`Exit::Lost`], and after [`Exit::In`] once [`Vcpu::complete_in`] was called.
    /// Under KVM it takes an ioctl that running does not ([`kvm::SAVE_IOCTLS`]).
    ///
    /// # Errors
    /// When the host fails, or an IN waits for its data.
    fn save(&mut self) -> Result<VcpuState, Error>;

    /// Has the guest go on with `state`, which any back end may have saved and nobody vouches for: on a
    /// vCPU that has not run yet, in memory that is as it was when the state was saved.
    ///
    /// # Errors
    /// [`Error::State`] when the state is damaged, or needs another processor; others when the host fails.
    fn restore(&mut self, state: &VcpuState) -> Result<(), Error>;

    /// How far the guest's time-stamp counter is ahead of the host's (wrapping): 0 where both are one.
    fn tsc_offset(&self) -> u64 {
        0
    }

    /// Frequency of the time-stamp counter in kHz, where the host tells it.
    fn tsc_khz(&self) -> Option<u32> {
        None
    }

    /// The process that executes the guest, if it is not the monitor itself.
    fn process_id(&self) -> Option<u32> {
        None
    }
}
