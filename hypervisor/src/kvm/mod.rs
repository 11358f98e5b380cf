//! The KVM back end: one vCPU that never leaves CPL 3, no interrupt controller, registers by
//! `KVM_CAP_SYNC_REGS`.
//!
//! It asks nothing of the host that VMX, SVM and shadow-paging KVM do not all give: long mode from the
//! first instruction, ordinary page tables, IOPL 0 with an open I/O bitmap, and CPL 0 interrupt gates
//! whose stubs leave by an OUT (see `denali_arch::tables`). It does not rely on `KVM_EXIT_SHUTDOWN`
//! (SVM resets the vCPU there), nor on changing page tables under a running guest.

mod cpuid;
mod extended;
mod processor;
mod state;
#[cfg(test)]
mod tests;
mod vcpu;

pub use extended::SAVE_IOCTLS;

use crate::state::Layout;
use crate::{Error, GuestRam, Registers, Vcpu, Vm};
use denali_abi::layout::RAM_START;
use denali_arch::tables;
use extended::Transfer;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use state::Exchange;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;

/// A virtual machine of the Denali profile under KVM.
pub struct KvmVm {
    memory: Rc<Memory>,
    /// Until it is taken.
    vcpu: Option<(VcpuFd, Exchange)>,
    /// Kept for as long as it is somebody's.
    _vm: VmFd,
}

/// All memory KVM may touch; it outlives every descriptor that refers to it.
struct Memory {
    ram: Rc<GuestRam>,
    /// Supervisor memory from guest address 0 on, in front of RAM.
    supervisor: NonNull<[u8]>,
}

impl Memory {
    /// Builds the processor's tables in front of `ram`.
    fn new(ram: Rc<GuestRam>) -> Result<Self, Error> {
        let front = ram.front().ok_or(Error::Misuse("KVM needs memory in front of RAM"))?;
        // SAFETY: the front is writable memory that `ram` owns and nobody else looks at.
        let memory = unsafe { &mut *front.as_ptr() };
        let used = tables::build(ram.space(), memory)
            .map_err(|_| Error::Misuse("the address space has too many regions"))?;
        Ok(Self { ram, supervisor: NonNull::slice_from_raw_parts(front.cast(), used) })
    }

    /// Supervisor memory; only looked at while the vCPU is out, since entering it takes `&mut`.
    fn supervisor(&self) -> &[u8] {
        // SAFETY: `ram` owns this memory, and lives as long as `self`. The one vCPU that changes it runs
        // only inside an ioctl of this very thread.
        unsafe { self.supervisor.as_ref() }
    }

    /// Tells KVM of it: one slot for supervisor memory and RAM, as each slot costs six pages.
    fn register(&self, vm: &VmFd) -> Result<(), Error> {
        let slot = kvm_userspace_memory_region {
            slot: 0,
            guest_phys_addr: 0,
            memory_size: self.ram.space().memory_size(),
            userspace_addr: self.ram.host_base() - RAM_START,
            flags: 0,
        };
        // SAFETY: front and RAM are one range that `self.ram` owns; it is shared with the vCPU, and so
        // lives until no descriptor of this machine is left.
        unsafe { vm.set_user_memory_region(slot) }.map_err(Error::host("register guest memory"))
    }
}

/// A machine without memory: what can be made before it is known for which guest.
pub struct BareMachine {
    vm: VmFd,
    vcpu: VcpuFd,
    exchange: Exchange,
}

impl BareMachine {
    /// Makes a machine and its vCPU from an open `/dev/kvm`.
    ///
    /// # Errors
    /// When this KVM lacks something, or the host refuses.
    pub fn new(device: OwnedFd) -> Result<Self, Error> {
        // SAFETY: the descriptor is owned and is given away here; `Kvm` closes it.
        let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
        check_capabilities(&kvm)?;
        let vm = create_vm(&kvm).map_err(Error::host("create the virtual machine"))?;
        let vcpu = vm.create_vcpu(0).map_err(Error::host("create the vCPU"))?;
        let components = processor::set_up(&vcpu)?.components;
        let (transfer, layout) = (Transfer::of(&vm), Layout::of_host());
        let exchange = Exchange { transfer, components, layout };
        Ok(Self { vm, vcpu, exchange })
    }
}

impl KvmVm {
    /// Makes a machine from an open `/dev/kvm` with `ram` as the guest's memory.
    ///
    /// # Errors
    /// When this KVM lacks something, or the host refuses.
    pub fn new(device: OwnedFd, ram: Rc<GuestRam>) -> Result<Self, Error> {
        Self::with_memory(BareMachine::new(device)?, ram)
    }

    /// Gives a machine that was made in advance its memory.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn with_memory(machine: BareMachine, ram: Rc<GuestRam>) -> Result<Self, Error> {
        let BareMachine { vm, vcpu, exchange } = machine;
        let memory = Rc::new(Memory::new(ram)?);
        memory.register(&vm)?;
        Ok(Self { memory, vcpu: Some((vcpu, exchange)), _vm: vm })
    }
}

impl Vm for KvmVm {
    fn create_vcpu(&mut self, entry: &Registers) -> Result<Box<dyn Vcpu>, Error> {
        let vcpu = self.vcpu.take().ok_or(Error::Misuse("a Denali guest has one vCPU"))?;
        let (fd, exchange) = vcpu;
        Ok(Box::new(vcpu::KvmVcpu::new(fd, self.memory.clone(), exchange, entry)?))
    }
}

/// Makes a machine. KVM gives up when a signal is pending, even one that is ignored; the next try finds it
/// taken.
fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    const TRIES: usize = 16;
    let mut made = kvm.create_vm();
    for _ in 1..TRIES {
        match &made {
            Err(error) if error.errno() == libc::EINTR => made = kvm.create_vm(),
            _ => break,
        }
    }
    made
}

fn check_capabilities(kvm: &Kvm) -> Result<(), Error> {
    if kvm.get_api_version() != 12 {
        return Err(Error::Unsupported("its API is not version 12"));
    }
    for (capability, missing) in [
        (Cap::UserMemory, "KVM_CAP_USER_MEMORY is missing"),
        (Cap::SyncRegs, "KVM_CAP_SYNC_REGS is missing"),
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT is missing"),
        (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID is missing"),
    ] {
        if !kvm.check_extension(capability) {
            return Err(Error::Unsupported(missing));
        }
    }
    Ok(())
}
