//! The process back end: the guest runs as a child process that can do nothing but compute.
//!
//! For machines without a usable `/dev/kvm`. The child's address space is the guest's, at the same
//! addresses, and (but for one page or two, see below) nothing else; it holds no descriptor, and a
//! seccomp filter turns every system call of every kind into a stop for the monitor, which traces it and
//! reports the call as the invalid instruction it is. Port I/O faults at CPL 3, and is decoded. This
//! is a process boundary, not a virtual machine's: the guest reaches the host kernel's exception and
//! system call entries, though nothing behind them.
//!
//! | file | its job |
//! |---|---|
//! | `plan` | what the child is to do, worked out before the fork |
//! | `child` | the child's side, up to the stub |
//! | `stub` | the last code of the monitor's in the child |
//! | `spawn` | the monitor's side of all that |
//! | `tracee` | ptrace and wait |
//! | `vcpu` | entering the guest, and why it came out |
//! | `port`, `fault` | what an exit means: a port instruction, an exception |
//! | `state` | saving and restoring what the registers proper are not |
//!
//! Limits, beyond the contract's list of what is unspecified:
//! - The signal stack, a few pages at a random address above 4 GiB, does not fault when touched. Nothing
//!   of the monitor's is ever there: only what the kernel saved of the guest's own registers.
//! - RAX loses its upper half in a faulting `int 0x80` or `sysenter`, and all of it in a jump into the
//!   kernel's vsyscall page; a `syscall` with prefixes is reported at the instruction proper.
//! - The ID flag (bit 21) cannot be changed by [`Vcpu::set_registers`] or [`Vcpu::restore`].

mod child;
mod fault;
mod pages;
mod plan;
mod port;
mod spawn;
mod state;
mod stub;
mod tracee;
mod vcpu;

#[cfg(test)]
pub(crate) mod tests;

use crate::{Backing, Error, GuestRam, Registers, Vcpu, Vm};
use denali_abi::layout::MEMORY_MIN;
use denali_arch::space::AddressSpace;
use spawn::Spawned;
use std::rc::Rc;
use vcpu::ProcessVcpu;

/// A guest in a process of its own.
#[derive(Debug)]
pub struct ProcessVm {
    ram: Rc<GuestRam>,
    spawned: Option<Spawned>,
}

impl ProcessVm {
    /// Forks the child, which sets itself up while the caller goes on. Image parts must have been
    /// mapped into `ram` before; its contents may change until the guest runs.
    ///
    /// Everything is to be done on one thread: the child belongs to it, and ends with it.
    ///
    /// # Errors
    /// When `ram` is [`Backing::Private`], or the host does not let the monitor fork or trace.
    pub fn new(ram: Rc<GuestRam>) -> Result<Self, Error> {
        let spawned = Some(Spawned::new(&ram)?);
        Ok(Self { ram, spawned })
    }
}

impl Vm for ProcessVm {
    fn create_vcpu(&mut self, entry: &Registers) -> Result<Box<dyn Vcpu>, Error> {
        let spawned = self.spawned.take().ok_or(Error::Misuse("a second vCPU was asked for"))?;
        let ready = spawned.finish()?;
        Ok(Box::new(ProcessVcpu::new(ready, Rc::clone(&self.ram), entry)?))
    }
}

/// Whether processes can be guests here, by making one: containers and Yama may forbid tracing.
///
/// # Errors
/// What stands in the way, as one line.
pub fn available() -> Result<(), String> {
    let try_it = || {
        let space = AddressSpace::new(MEMORY_MIN).map_err(|error| error.to_string())?;
        let ram = GuestRam::new(space, Backing::Shared).map_err(|error| error.to_string())?;
        let mut vm = ProcessVm::new(Rc::new(ram)).map_err(|error| error.to_string())?;
        vm.create_vcpu(&Registers::default()).map_err(|error| error.to_string())
    };
    try_it().map(drop)
}
