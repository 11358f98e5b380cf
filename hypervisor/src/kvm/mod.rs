//! The KVM back end: one vCPU that never leaves CPL 3, no interrupt controller, registers by
//! `KVM_CAP_SYNC_REGS`.
//!
//! It asks nothing of the host that VMX, SVM and shadow-paging KVM do not all give: long mode from the
//! first instruction, ordinary page tables, IOPL 0 with an open I/O bitmap, and CPL 0 interrupt gates
//! whose stubs leave by an OUT (see `denali_arch::tables`). It does not rely on `KVM_EXIT_SHUTDOWN`
//! (SVM resets the vCPU there), nor on changing page tables under a running guest.

mod cpuid;
mod processor;
#[cfg(test)]
mod tests;
mod vcpu;

use crate::{Error, GuestRam, Registers, Vcpu, Vm};
use denali_abi::layout::RAM_START;
use denali_arch::space::AddressSpace;
use denali_arch::tables;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VmFd};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;

/// Addresses there are for supervisor memory: all below RAM.
const RESERVED: usize = RAM_START as usize;

const SUPERVISOR_SLOT: u32 = 0;
const RAM_SLOT: u32 = 1;

/// A virtual machine of the Denali profile under KVM.
pub struct KvmVm {
    vm: VmFd,
    memory: Rc<Memory>,
    has_vcpu: bool,
}

/// All memory KVM may touch; it outlives every descriptor that refers to it.
struct Memory {
    ram: Rc<GuestRam>,
    supervisor: SupervisorPages,
}

impl KvmVm {
    /// Makes a machine from an open `/dev/kvm` with `ram` as the guest's memory.
    ///
    /// # Errors
    /// When this KVM lacks something, or the host refuses.
    pub fn new(device: OwnedFd, ram: Rc<GuestRam>) -> Result<Self, Error> {
        // SAFETY: the descriptor is owned and is given away here; `Kvm` closes it.
        let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
        check_capabilities(&kvm)?;
        let vm = kvm.create_vm().map_err(Error::host("create the virtual machine"))?;
        let supervisor = SupervisorPages::new(ram.space())?;
        let memory = Rc::new(Memory { ram, supervisor });
        register_memory(&vm, &memory)?;
        Ok(Self { vm, memory, has_vcpu: false })
    }
}

impl Vm for KvmVm {
    fn create_vcpu(&mut self, entry: &Registers) -> Result<Box<dyn Vcpu>, Error> {
        if std::mem::replace(&mut self.has_vcpu, true) {
            return Err(Error::Misuse("a Denali guest has one vCPU"));
        }
        let fd = self.vm.create_vcpu(0).map_err(Error::host("create the vCPU"))?;
        processor::set_up(&fd)?;
        Ok(Box::new(vcpu::KvmVcpu::new(fd, self.memory.clone(), entry)?))
    }
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

fn register_memory(vm: &VmFd, memory: &Memory) -> Result<(), Error> {
    let supervisor = kvm_userspace_memory_region {
        slot: SUPERVISOR_SLOT,
        guest_phys_addr: 0,
        memory_size: memory.supervisor.used as u64,
        userspace_addr: memory.supervisor.base.as_ptr() as u64,
        flags: 0,
    };
    let ram = kvm_userspace_memory_region {
        slot: RAM_SLOT,
        guest_phys_addr: RAM_START,
        memory_size: memory.ram.space().memory_size() - RAM_START,
        userspace_addr: memory.ram.host_base(),
        flags: 0,
    };
    for slot in [supervisor, ram] {
        // SAFETY: both ranges are mappings that `memory` owns; it is shared with the vCPU, and so
        // lives until no descriptor of this machine is left.
        unsafe { vm.set_user_memory_region(slot) }.map_err(Error::host("register guest memory"))?;
    }
    Ok(())
}

/// Supervisor-only guest memory from address 0 on: anonymous pages of the monitor, of which those that
/// hold something take memory.
struct SupervisorPages {
    base: NonNull<u8>,
    used: usize,
}

impl SupervisorPages {
    fn new(space: &AddressSpace) -> Result<Self, Error> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping at a place of the kernel's choice.
        let mapped =
            unsafe { libc::mmap(std::ptr::null_mut(), RESERVED, protection, flags, -1, 0) };
        let base = NonNull::new(mapped.cast::<u8>())
            .filter(|_| mapped != libc::MAP_FAILED)
            .ok_or_else(|| Error::last("map supervisor memory"))?;
        let mut pages = Self { base, used: RESERVED };
        // SAFETY: the mapping is writable for its whole length, and nobody else knows of it yet.
        let memory = unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), RESERVED) };
        pages.used = tables::build(space, memory)
            .map_err(|_| Error::Misuse("the address space has too many regions"))?;
        Ok(pages)
    }

    /// The content; only looked at while the vCPU is out, since entering it takes `&mut`.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable beyond this length and lives as long as `self`. The one
        // vCPU that changes it runs only inside an ioctl of this very thread.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.used) }
    }
}

impl Drop for SupervisorPages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length; KVM holds no user reference to it
        // once its descriptors are closed, and faults harmlessly should one still be open.
        unsafe { libc::munmap(self.base.as_ptr().cast(), RESERVED) };
    }
}
