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

pub use extended::{RESTORE_IOCTLS, SAVE_IOCTLS};

use crate::state::Layout;
use crate::{BareRam, Error, GuestRam, Registers, Vcpu, Vm};
use denali_abi::layout::RAM_START;
use denali_arch::tables;
use extended::Transfer;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use state::Exchange;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;
use vcpu::Counter;

/// A virtual machine of the Denali profile under KVM.
pub struct KvmVm {
    memory: Rc<Memory>,
    /// Until it is taken.
    vcpu: Option<(VcpuFd, Exchange, Counter)>,
    /// Kept for as long as it is somebody's.
    _vm: VmFd,
}

/// The request that gives a machine its memory, which [`KvmVm::with_memory`] makes where it was not done
/// in advance. No descriptor takes it any more once the machine was dropped.
pub const MEMORY_IOCTL: libc::c_ulong = 0x4020_ae46;

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

    /// Tells KVM of it, unless it knows.
    fn register(&self, vm: &VmFd, known: Option<Slot>) -> Result<(), Error> {
        let start = self.ram.host_base() - RAM_START;
        let slot = Slot { start, size: self.ram.space().memory_size() };
        match known {
            Some(known) if known == slot => return Ok(()),
            // A slot's size never changes: that of another guest's memory has to go.
            // SAFETY: nothing is mapped by a slot of no bytes.
            Some(known) => unsafe { Slot { size: 0, ..known }.register(vm)? },
            None => {}
        }
        // SAFETY: front and RAM are one range that `self.ram` owns; it is shared with the vCPU, and so
        // lives until no descriptor of this machine is left.
        unsafe { slot.register(vm) }
    }
}

/// Memory as KVM knows it: one slot for supervisor memory and RAM, as each slot costs six pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Where guest address 0 is mapped.
    start: u64,
    /// Bytes; 0 for none.
    size: u64,
}

impl Slot {
    /// # Safety
    /// The range is mapped whenever the machine runs, and belongs to its guest.
    unsafe fn register(self, vm: &VmFd) -> Result<(), Error> {
        let slot = kvm_userspace_memory_region {
            slot: 0,
            guest_phys_addr: 0,
            memory_size: self.size,
            userspace_addr: self.start,
            flags: 0,
        };
        // SAFETY: the caller's.
        unsafe { vm.set_user_memory_region(slot) }.map_err(Error::host("register guest memory"))
    }
}

/// A machine without a guest: what can be made before it is known for which.
pub struct BareMachine {
    vm: VmFd,
    vcpu: VcpuFd,
    exchange: Exchange,
    counter: Counter,
    /// Memory that it has, until it is taken for a guest.
    memory: Option<BareRam>,
    slot: Option<Slot>,
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
        let counter = Counter::of(&vcpu);
        Ok(Self { vm, vcpu, exchange, counter, memory: None, slot: None })
    }

    /// Gives it memory for a guest of `memory_size`: the most likely one, as KVM takes its time.
    ///
    /// # Errors
    /// When no guest has so much, or the host refuses.
    pub fn expect(&mut self, memory_size: u64) -> Result<(), Error> {
        if self.slot.is_some() {
            return Err(Error::Misuse("a machine was given memory twice"));
        }
        let memory = BareRam::new(memory_size)?;
        let slot = Slot { start: memory.host_start(), size: memory_size };
        // SAFETY: the range is `memory`'s, which belongs to this machine until it is made guest memory, and then
        // to that; no vCPU runs before `KvmVm::with_memory` has seen which.
        unsafe { slot.register(&self.vm)? };
        (self.memory, self.slot) = (Some(memory), Some(slot));
        Ok(())
    }

    /// The memory that it was given, if that is of this size: for the guest that the machine will be given.
    pub fn take_memory(&mut self, memory_size: u64) -> Option<BareRam> {
        self.memory.take_if(|memory| memory.memory_size() == memory_size)
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

    /// Gives a machine that was made in advance its memory: what [`BareMachine::take_memory`] gave is there
    /// already.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn with_memory(machine: BareMachine, ram: Rc<GuestRam>) -> Result<Self, Error> {
        let BareMachine { vm, vcpu, exchange, counter, memory: unused, slot } = machine;
        let memory = Rc::new(Memory::new(ram)?);
        memory.register(&vm, slot)?;
        // Only now, that KVM knows of other memory.
        drop(unused);
        Ok(Self { memory, vcpu: Some((vcpu, exchange, counter)), _vm: vm })
    }
}

impl Vm for KvmVm {
    fn create_vcpu(&mut self, entry: &Registers) -> Result<Box<dyn Vcpu>, Error> {
        let vcpu = self.vcpu.take().ok_or(Error::Misuse("a Denali guest has one vCPU"))?;
        let (fd, exchange, counter) = vcpu;
        let memory = self.memory.clone();
        Ok(Box::new(vcpu::KvmVcpu::new(fd, memory, (exchange, counter), entry)?))
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
